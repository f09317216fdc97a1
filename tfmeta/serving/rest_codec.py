"""JSON of TensorFlow Serving's REST API <-> numpy."""

import base64
import json
from typing import Any

import numpy as np
import orjson

from tfmeta.serving.json_tensor import quote, read_tensor
from tfmeta.serving.prediction_service import refuse_empty
from tfmeta.serving.request_error import RequestError


def parse_body(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a request body; RequestError if it is none."""
    if not body:
        raise _bad("JSON Parse error: The document is empty")
    try:
        request = json.loads(body)
    except json.JSONDecodeError as error:
        raise _bad(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except (ValueError, RecursionError) as error:  # Not UTF-8, or a number or a nesting without end.
        raise _bad(f"JSON Parse error: {str(error)[:200]}") from None
    if not isinstance(request, dict):
        raise _bad(f"JSON Value: {quote(request)} Is not object")
    return request


def signature_name(request: dict[str, Any]) -> str:
    """Returns the signature that a request asks for; RequestError if it is not a string."""
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise _bad(f"JSON Value: {quote(request)} not formatted correctly. 'signature_name' key must be a string "
                   "value.")
    return name or "serving_default"


def read_request(request: dict[str, Any], signature) -> tuple[dict[str, np.ndarray], bool]:
    """Reads a predict request.

    Args:
      request: `{"instances": rows}` or `{"inputs": columns}`.
      signature: the SignatureDef that it is for.

    Returns:
      (array by input name, whether the request is in rows).

    Raises:
      RequestError: INVALID_ARGUMENT, saying what is wrong in TensorFlow Serving's words.
    """
    in_rows = "instances" in request
    if in_rows and "inputs" in request:
        raise _bad(f"JSON Value: {quote(request)} Not formatted correctly expecting only one of 'inputs' or "
                   "'instances' keys to exist ")
    if in_rows:
        inputs = _read_rows(request, signature)
    elif "inputs" in request:
        inputs = _read_columns(request["inputs"], signature)
    else:
        raise _bad("Missing 'inputs' or 'instances' key")
    return {alias: refuse_empty(alias, value) for alias, value in inputs.items()}, in_rows


def write_reply(outputs: dict[str, np.ndarray], *, rows: bool) -> bytes:
    """Returns the JSON object of a reply; with a single output its name is dropped.

    A float32 has the fewest digits that give it back. Numbers that are not finite are written as `NaN`, `Infinity` and
    `-Infinity`, as TensorFlow Serving does.

    Raises:
      RequestError: INVALID_ARGUMENT if rows are asked for and the outputs do not have as many as each other.
    """
    written = {alias: _texts(alias, value) if value.dtype == np.object_ else value
               for alias, value in sorted(outputs.items())}
    single = next(iter(written.values())) if len(written) == 1 else None
    if not rows:
        reply = {"outputs": written if single is None else single}
    else:
        count = None
        for alias, value in outputs.items():
            if not value.ndim:
                raise _bad(f"Tensor name: {alias} has no shape information ")
            if count is not None and len(value) != count:
                raise _bad(f"Tensor name: {alias} has inconsistent batch size: {len(value)} expecting: {count}")
            count = len(value)
        reply = {"predictions": single if single is not None else [
            dict(zip(written, row, strict=True)) for row in zip(*written.values(), strict=True)]}
    if all(np.isfinite(value).all() for value in outputs.values() if value.dtype.kind == "f"):
        return orjson.dumps(reply, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(reply, default=_plain).encode("ascii")


def _read_columns(columns: Any, signature) -> dict[str, np.ndarray]:
    if not isinstance(columns, dict) or _is_base64(columns):
        if len(signature.inputs) > 1:
            raise _bad("inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                       "per tensorinfo_map")
        alias, info = next(iter(signature.inputs.items()))
        return {alias: read_tensor(columns, info.dtype)}
    inputs = {}
    for alias in sorted(signature.inputs):
        if alias not in columns:
            raise _bad(f"Missing named input: {alias} in 'inputs' object.")
        inputs[alias] = read_tensor(columns[alias], signature.inputs[alias].dtype)
    return inputs


def _read_rows(request: dict[str, Any], signature) -> dict[str, np.ndarray]:
    rows = request["instances"]
    if not isinstance(rows, list):
        raise _bad(f"JSON Value: {quote(request)} Excepting 'instances' to be an list/array")
    if not rows:
        raise _bad(f"JSON Value: {quote(request)} No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(signature.inputs) > 1:
        raise _bad("instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                   "tensorinfo_map")
    named = _is_named(rows[0])
    for position, row in enumerate(rows):
        if _is_named(row) != named:
            raise _bad(f"Expecting object but got list at item {position} of input list" if named else
                       f"Expecting value/list but got object at item {position} of input list")
    required = set(signature.inputs)
    if not named:
        columns = {next(iter(required)): rows}
    else:
        for position, row in enumerate(rows):
            if row.keys() != required:
                raise _wrong_keys(row, required, position)
        columns = {alias: [row[alias] for row in rows] for alias in rows[0]}
    inputs = {}
    for alias, column in columns.items():
        number = signature.inputs[alias].dtype
        try:
            inputs[alias] = read_tensor(column, number)
        except RequestError:
            _find_row(alias if named else None, column, number)
            raise
    return inputs


def _find_row(alias: str | None, column: list, number: int) -> None:
    """Raises the error of the row that does not fit, read alone or beside the first one."""
    key = "" if alias is None else f" key: {alias}"
    shape = None
    for position, value in enumerate(column):
        where = f"Failed to process element: {position}{key} of 'instances' list. Error: INVALID_ARGUMENT: "
        try:
            array = read_tensor(value, number)
        except RequestError as error:
            raise RequestError(error.code, where + error.message) from None
        if shape is None:
            shape, size = array.shape, array.size
        elif array.size != size:
            raise _bad(f"{where}Expecting tensor size: {size} but got: {array.size}")
        elif array.shape != shape:
            raise _bad(f"{where}Expecting shape {_dims(shape)} but got: {_dims(array.shape)}")


def _wrong_keys(row: dict, required: set[str], position: int) -> RequestError:
    unknown = [name for name in row if name not in required]
    if unknown:
        return _bad(f"Failed to process element: {position} key: {unknown[0]} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: JSON object: does not have named input: {unknown[0]}")
    return _bad(f"Failed to process element: {position} of 'instances' list. JSON object: {quote(row)} keys must be "
                f"equal to: {','.join(sorted(required))}")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _is_named(row: Any) -> bool:
    """Tells whether a row names its inputs; a lone `{"b64": ...}` is a value."""
    return isinstance(row, dict) and not _is_base64(row)


def _dims(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _texts(alias: str, value: np.ndarray) -> Any:
    encode = alias.endswith("_bytes")
    texts = [{"b64": base64.b64encode(v).decode("ascii")} if encode else v.decode("utf-8", "replace")
             for v in value.ravel()]
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array.reshape(value.shape).tolist()


def _plain(value: np.ndarray | np.generic) -> Any:
    """What orjson does not take, such as scalars and views with gaps, and the standard library no array at all."""
    return value.tolist()


def _bad(message: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", message)
