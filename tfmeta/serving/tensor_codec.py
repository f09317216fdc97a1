"""TensorProto <-> numpy without TensorFlow.

The functions work on any message class with the fields of tensorflow.TensorProto: TensorFlow's own in the server,
`tfmeta.serving.wire` in the client.
"""

import functools
import math

import numpy as np

from tfmeta.serving import wire

# tensorflow.DataType number -> (name, numpy dtype, field of the typed values).
TYPES = {
    1: ("float", np.float32, "float_val"), 2: ("double", np.float64, "double_val"),
    3: ("int32", np.int32, "int_val"), 4: ("uint8", np.uint8, "int_val"), 5: ("int16", np.int16, "int_val"),
    6: ("int8", np.int8, "int_val"), 7: ("string", np.object_, "string_val"),
    9: ("int64", np.int64, "int64_val"), 10: ("bool", np.bool_, "bool_val"), 17: ("uint16", np.uint16, "int_val"),
    19: ("half", np.float16, "half_val"), 22: ("uint32", np.uint32, "uint32_val"),
    23: ("uint64", np.uint64, "uint64_val"),
}
DT_STRING = 7
_BYTES = {number: np.dtype(dtype).itemsize for number, (_, dtype, _) in TYPES.items()}
_NUMBERS = {np.dtype(dtype): number for number, (_, dtype, _) in TYPES.items() if number != DT_STRING}
# A shape alone may ask for any amount of memory; one that its values do not fill is held to this many elements.
_MAX_FILLED = 1 << 20
# Bytes of a shape that is remembered.
_MAX_KNOWN = 64


def type_name(number: int) -> str:
    """Returns TensorFlow's name of a DataType number, as its error messages have it."""
    return TYPES[number][0] if number in TYPES else f"dtype_{number}"


def decode(proto) -> np.ndarray:
    """Returns the tensor; strings as bytes in an object array, numbers as a read-only view where possible.

    Fewer typed values than elements repeat the last one, none mean zeros, as in TensorFlow.

    Raises:
      ValueError: if shape, type and values do not fit together.
    """
    if proto.dtype not in TYPES:
        raise ValueError(f"unsupported type {proto.dtype}")
    _, dtype, field = TYPES[proto.dtype]
    encoded = proto.tensor_shape.SerializeToString()
    shape, count = (_known_shape if len(encoded) <= _MAX_KNOWN else _read_shape)(encoded)
    content = proto.tensor_content
    if content:
        if proto.dtype == DT_STRING or len(content) != count * _BYTES[proto.dtype]:
            raise ValueError(f"{len(content)} bytes of content do not make shape {list(shape)}")
        return np.ndarray(shape, dtype, content)
    values = getattr(proto, field)
    if len(values) < count and count > _MAX_FILLED:
        raise ValueError(f"{len(values)} values do not make shape {list(shape)}")
    if proto.dtype == DT_STRING:
        flat = np.empty(count, np.object_)
        flat[:] = b""
        filled = min(count, len(values))
        flat[:filled] = values[:filled]
    else:
        filled = min(count, len(values))
        if field == "half_val":
            known = np.array(values[:filled], np.int64).astype(np.uint16).view(np.float16)
        else:
            # A value beyond its narrow type wraps, as TensorFlow's cast does.
            known = np.array(values[:filled], np.int64 if field == "int_val" else dtype).astype(dtype)
        flat = known if filled == count else np.concatenate([known, np.zeros(count - filled, dtype)])
    if 0 < filled < count:
        flat[filled:] = flat[filled - 1]
    return flat.reshape(shape)


def _read_shape(encoded: bytes) -> tuple[tuple[int, ...], int]:
    """Returns sizes and their product of a serialized TensorShapeProto; ValueError if there is no such tensor."""
    shape = wire.TensorShapeProto.FromString(encoded)
    if shape.unknown_rank:
        raise ValueError("unknown rank")
    sizes = tuple(d.size for d in shape.dim)
    if sizes and min(sizes) < 0:
        raise ValueError(f"negative dimension in {list(sizes)}")
    return sizes, math.prod(sizes)


# A server reads the same few shapes again and again, and going over a message's fields costs more than the rest.
_known_shape = functools.lru_cache(maxsize=1024)(_read_shape)


def encode(array: np.ndarray, proto, *, typed: bool = False) -> None:
    """Writes an array into an empty TensorProto.

    Args:
      array: numbers, booleans, or strings (`str` or `bytes`, any numpy or pandas representation).
      proto: the message to fill.
      typed: write `float_val` and the like, as a stock server does, instead of `tensor_content`.

    Raises:
      ValueError: on a type that TensorFlow does not have, or an object that is not a string.
    """
    array = np.asarray(array)
    number = _NUMBERS.get(array.dtype)
    if number is None:
        if array.dtype.kind in "OUST":
            number = DT_STRING
        elif (number := _NUMBERS.get(array.dtype.newbyteorder("="))) is None:
            raise ValueError(f"A tensor requires numbers, booleans or strings, received dtype {array.dtype}.")
    field = TYPES[number][2]
    proto.dtype = number
    proto.tensor_shape.MergeFromString(_shape_bytes(array.shape))
    if number == DT_STRING:
        proto.string_val.extend([_to_bytes(v) for v in array.ravel().tolist()])
    elif not typed:
        if not _is_little(array.dtype):
            array = array.astype(array.dtype.newbyteorder("<"))
        proto.tensor_content = array.tobytes()
    else:
        flat = array.ravel()
        getattr(proto, field).extend((flat.view(np.uint16) if field == "half_val" else flat).tolist())


@functools.lru_cache(maxsize=1024)
def _shape_bytes(shape: tuple[int, ...]) -> bytes:
    return wire.TensorShapeProto(dim=[{"size": size} for size in shape]).SerializeToString()


@functools.cache
def _is_little(dtype: np.dtype) -> bool:
    return dtype == dtype.newbyteorder("<")


def _to_bytes(value) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    raise ValueError(f"A string tensor requires str or bytes, received {value!r}.")
