"""One JSON value -> one tensor, with TensorFlow Serving's rules and messages."""

import base64
import binascii
import json
from typing import Any

import numpy as np

from tfmeta.serving.request_error import RequestError
from tfmeta.serving.tensor_codec import DT_STRING, TYPES, type_name

# A float takes whole numbers up to its mantissa, as in TensorFlow Serving.
_MOST_WHOLE = {np.float16: 2**11 - 1, np.float32: 2**24 - 1, np.float64: 2**53 - 1}
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}
# Of a quoted value; it may be a whole request.
_MAX_QUOTE = 300


def read_tensor(value: Any, number: int) -> np.ndarray:
    """Returns a JSON value as a tensor.

    Args:
      value: a scalar or lists of one length at each level; strings may be `{"b64": ...}`.
      number: TensorFlow's DataType number of the tensor.

    Raises:
      RequestError: INVALID_ARGUMENT with TensorFlow Serving's message, UNIMPLEMENTED for a type that JSON has not.
    """
    if number not in TYPES or TYPES[number][0] == "half":
        raise RequestError("UNIMPLEMENTED", f"Conversion of JSON Value: {quote(value)} to type: {type_name(number)}")
    if number == DT_STRING:
        return _strings(value)
    dtype = TYPES[number][1]
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        array = None
    if array is not None:
        if not array.size:
            return array.astype(dtype) if _is_dense(value, shape_of(value), 0) else _fail(value, number)
        if array.dtype == dtype and array.dtype.kind != "f":
            return array
        if array.dtype.kind in _KINDS[np.dtype(dtype).kind] and _fits(array, dtype):
            return array.astype(dtype)
    return _fail(value, number)


def shape_of(value: Any) -> list[int]:
    """Returns the shape that the first elements have."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def quote(value: Any) -> str:
    """Returns a JSON value as text for a message, shortened."""
    try:
        text = json.dumps(value, indent=4 if isinstance(value, list | dict) else None)
    except (RecursionError, ValueError):
        text = type(value).__name__
    return text if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]}..."


def _fits(array: np.ndarray, dtype: type) -> bool:
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        return bool(array.min() >= limits.min and array.max() <= limits.max)
    if array.dtype.kind in "iu":
        return bool(array.max() <= _MOST_WHOLE[dtype] and array.min() >= -_MOST_WHOLE[dtype])
    if dtype is np.float32:
        most = np.finfo(dtype).max
        if np.abs(array).max() <= most:
            return True
        finite = np.isfinite(array)
        return bool((np.abs(array, where=finite, out=np.zeros_like(array)) <= most).all())
    return True


def _fail(value: Any, number: int) -> np.ndarray:
    """Raises what TensorFlow Serving says about the first offence; returns the tensor if there is none after all."""
    shape = shape_of(value)
    flat: list = []
    try:
        _walk(value, shape, 0, number, flat)
    except RecursionError:
        raise RequestError("INVALID_ARGUMENT", "JSON Value: the lists are nested too deeply") from None
    try:
        return np.array(flat, TYPES[number][1]).reshape(shape)
    except ValueError:  # Nested deeper than an array can be.
        raise RequestError("INVALID_ARGUMENT", f"Encountered list at unexpected level: {len(shape)}") from None


def _walk(value: Any, shape: list[int], level: int, number: int, flat: list) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise _bad(f"JSON Value: {quote(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                       f"level: {len(shape)}")
        flat.append(_leaf(value, number))
        return
    if level >= len(shape):
        raise _bad(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise _bad(f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
                   f"{shape[level]}")
    for child in value:
        _walk(child, shape, level + 1, number, flat)


def _leaf(value: Any, number: int) -> Any:
    dtype = TYPES[number][1]
    kind = np.dtype(dtype).kind
    if number == DT_STRING:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if isinstance(value, dict):
            return _base64(value)
        raise _wrong_type(value, number)
    if kind == "b":
        if not isinstance(value, bool):
            raise _wrong_type(value, number)
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(value, number)
    if kind in "iu":
        limits = np.iinfo(dtype)
        if not isinstance(value, int) or not limits.min <= value <= limits.max:
            raise _wrong_type(value, number)
        return value
    most = _MOST_WHOLE[dtype] if isinstance(value, int) else float(np.finfo(dtype).max)
    if abs(value) > most and value not in (float("inf"), float("-inf")):
        raise _bad(f"Cannot convert JSON value: {quote(value)} to {type_name(number)} without loss of precision.")
    return value


def _base64(value: dict) -> bytes:
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise _bad(f"JSON Value: {quote(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise _bad("Unable to base64 decode") from None


def _strings(value: Any) -> np.ndarray:
    shape = shape_of(value)
    flat: list = []
    if len(shape) == 2 and all(isinstance(row, list) and len(row) == shape[1] for row in value):
        # The usual case without a call per string.
        for row in value:
            flat += [v.encode() if isinstance(v, str) and v.isascii() else _leaf(v, DT_STRING)
                     if not isinstance(v, list) else _fail(value, DT_STRING) for v in row]
    else:
        try:
            _walk(value, shape, 0, DT_STRING, flat)
        except RecursionError:
            raise _bad("JSON Value: the lists are nested too deeply") from None
    array = np.empty(len(flat), np.object_)
    array[:] = flat
    try:
        return array.reshape(shape)
    except ValueError:
        raise _bad(f"Encountered list at unexpected level: {len(shape)}") from None


def _is_dense(value: Any, shape: list[int], level: int) -> bool:
    if not isinstance(value, list):
        return False
    return level < len(shape) and len(value) == shape[level] and (
        level == len(shape) - 1 or all(_is_dense(v, shape, level + 1) for v in value))


def _wrong_type(value: Any, number: int) -> RequestError:
    kind = {type(None): "Null", bool: "True" if value is True else "False", dict: "Object", list: "Array",
            str: "String"}.get(type(value), "Number")
    return _bad(f"JSON Value: {quote(value)} Type: {kind} is not of expected type: {type_name(number)}")


def _bad(message: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", message)
