"""JSON of TensorFlow Serving's REST API <-> numpy."""

import base64
import binascii
from typing import Any

import numpy as np

from tfmeta.serving.prediction_service import check_aliases, refuse_empty
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.tensor_codec import DT_STRING, TYPES, type_name


def read_request(body: Any, signature) -> tuple[dict[str, np.ndarray], bool]:
    """Reads a predict request.

    Args:
      body: parsed JSON: `{"instances": rows}` or `{"inputs": columns}`.
      signature: the SignatureDef that it is for.

    Returns:
      (array by input name, whether the request is in rows).

    Raises:
      RequestError: INVALID_ARGUMENT, saying what is wrong.
    """
    if not isinstance(body, dict) or ("instances" in body) == ("inputs" in body):
        raise _bad("JSON object requires exactly one of 'instances' (rows) and 'inputs' (columns)")
    if "inputs" in body:
        columns = body["inputs"]
        if not isinstance(columns, dict):
            columns = {_only(signature): columns}
    else:
        columns = _columns(body["instances"], signature)
    check_aliases(signature, set(columns))
    return {alias: refuse_empty(alias, _array(alias, value, signature.inputs[alias].dtype))
            for alias, value in columns.items()}, "instances" in body


def write_reply(outputs: dict[str, np.ndarray], *, rows: bool) -> dict[str, Any]:
    """Returns the JSON object of a reply; with a single output its name is dropped."""
    plain = {alias: _plain(alias, value) for alias, value in outputs.items()}
    single = next(iter(plain.values())) if len(plain) == 1 else None
    if not rows:
        return {"outputs": plain if single is None else single}
    if single is not None:
        return {"predictions": single}
    return {"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]}


def _columns(instances: Any, signature) -> dict[str, list]:
    if not isinstance(instances, list) or not instances:
        raise _bad("'instances' requires a list of at least one row")
    # A lone {"b64": ...} is a value, not a row of named inputs.
    if not all(isinstance(row, dict) and set(row) != {"b64"} for row in instances):
        return {_only(signature): instances}
    names = set(instances[0])
    for position, row in enumerate(instances):
        if set(row) != names:
            raise _bad(f"row {position} of 'instances' has inputs {sorted(row)}, row 0 has {sorted(names)}")
    return {name: [row[name] for row in instances] for name in instances[0]}


def _only(signature) -> str:
    if len(signature.inputs) != 1:
        raise _bad(f"a signature with {len(signature.inputs)} inputs requires them by name: {sorted(signature.inputs)}")
    return next(iter(signature.inputs))


def _array(alias: str, value: Any, number: int) -> np.ndarray:
    if number == DT_STRING:
        return _strings(alias, value)
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        raise _bad(f"input {alias} requires rows of one length") from None
    _, dtype, _ = TYPES[number]
    kind = np.dtype(dtype).kind
    if array.size and array.dtype.kind not in {"f": "iuf", "b": "b"}.get(kind, "iu"):
        raise _bad(f"input {alias} requires numbers of type {type_name(number)}")
    if kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise _bad(f"input {alias} has a number out of the range of {type_name(number)}")
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _strings(alias: str, value: Any) -> np.ndarray:
    shape, node = [], value
    while isinstance(node, list):
        shape.append(len(node))
        node = node[0] if node else None
    flat: list[bytes] = []

    def collect(node: Any, depth: int) -> None:
        if isinstance(node, list):
            if depth >= len(shape) or len(node) != shape[depth]:
                raise _bad(f"input {alias} requires rows of one length")
            for child in node:
                collect(child, depth + 1)
        elif depth != len(shape):
            raise _bad(f"input {alias} requires rows of one length")
        elif isinstance(node, str):
            flat.append(node.encode("utf-8", "surrogatepass"))
        elif isinstance(node, dict) and set(node) == {"b64"} and isinstance(node["b64"], str):
            try:
                flat.append(base64.b64decode(node["b64"], validate=True))
            except (binascii.Error, ValueError):
                raise _bad(f"input {alias} has a 'b64' that is not base64") from None
        else:
            raise _bad(f"input {alias} requires strings")

    collect(value, 0)
    array = np.empty(len(flat), np.object_)
    array[:] = flat
    return array.reshape(shape)


def _plain(alias: str, value: np.ndarray) -> list:
    if value.dtype != np.object_:
        return value.tolist()
    encode = alias.endswith("_bytes")
    texts = [{"b64": base64.b64encode(v).decode("ascii")} if encode else v.decode("utf-8", "replace")
             for v in value.ravel()]
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array.reshape(value.shape).tolist()


def _bad(message: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", f"Malformed request: {message}.")
