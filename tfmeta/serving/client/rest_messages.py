"""Calls as the JSON of TensorFlow Serving's REST API, and back."""

import base64
import json
from typing import Any
from urllib.parse import quote

import numpy as np

from tfmeta.serving.client.calls import PredictCall
from tfmeta.serving.client.errors import error_for
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.tensor_codec import TYPES

_CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
          411: "INVALID_ARGUMENT", 413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED", 499: "CANCELLED",
          501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
_DTYPES = {f"DT_{name.upper()}": dtype for name, dtype, _ in TYPES.values()}


def model_path(model: str, *, version: int | None = None, label: str | None = None) -> str:
    """Returns `/v1/models/NAME[/versions/V|/labels/L]`."""
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        return f"{path}/versions/{version}"
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"


def encode(call: PredictCall) -> bytes:
    """Returns the body of a predict request, in columns.

    Raises:
      ValueError: on a type that JSON does not have.
    """
    body: dict[str, Any] = {"inputs": {name: _to_json(value) for name, value in call.inputs.items()}}
    if call.signature:
        body["signature_name"] = call.signature
    # NaN and Infinity are written as they are: TensorFlow Serving reads them.
    return json.dumps(body, separators=(",", ":")).encode("utf-8")


def parse(status: int, body: bytes) -> dict:
    """Returns the object of a reply; RequestError with the server's message if it is an error or no object."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if status == 200 and isinstance(content, dict):
        return content
    if status == 200:
        raise RequestError("INTERNAL", f"The server's reply is no JSON object: {body[:100]!r}.")
    message = content.get("error") if isinstance(content, dict) else None
    if not isinstance(message, str):
        message = body.decode("utf-8", "replace")[:500] or f"HTTP status {status}"
    raise error_for(_CODES.get(status, "INTERNAL" if status >= 500 else "UNKNOWN"), message)


def read_outputs(content: dict, outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns arrays by output name.

    Args:
      content: of a predict reply; with a single output its name is dropped.
      outputs: those of the signature, as the metadata reply has them.

    Raises:
      RequestError: INTERNAL, if the reply does not have these outputs.
    """
    values = content.get("outputs")
    if len(outputs) == 1:
        values = {next(iter(outputs)): values}
    if not isinstance(values, dict) or set(values) - set(outputs):
        raise RequestError("INTERNAL", f"The server's reply requires outputs {sorted(outputs)}, received "
                           f"{sorted(values) if isinstance(values, dict) else type(values).__name__}.")
    return {name: _to_array(name, value, outputs[name].get("dtype", "")) for name, value in values.items()}


def _to_json(value: np.ndarray) -> Any:
    if value.dtype.kind in "fiub":
        return value.tolist()
    if value.dtype.kind not in "OUST":
        raise ValueError(f"A tensor requires numbers, booleans or strings, received dtype {value.dtype}.")
    flat = np.empty(value.size, object)
    flat[:] = [_text(v) for v in value.ravel().tolist()]
    return flat.reshape(value.shape).tolist()


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise ValueError(f"A string tensor requires str or bytes, received {value!r}.")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode("ascii")}


def _to_array(name: str, value: Any, dtype: str) -> np.ndarray:
    if dtype not in _DTYPES:
        raise RequestError("INTERNAL", f"Output '{name}' is of a type that JSON does not carry: '{dtype}'.")
    try:
        if _DTYPES[dtype] is not np.object_:
            with np.errstate(over="ignore"):
                return np.array(value, _DTYPES[dtype])
        array = np.array(value, object)
        flat = np.empty(array.size, object)
        flat[:] = [base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode("utf-8")
                   for v in array.ravel().tolist()]
        return flat.reshape(array.shape)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise RequestError("INTERNAL", f"Output '{name}' requires values of {dtype}, received {value!r:.80}.") from None
