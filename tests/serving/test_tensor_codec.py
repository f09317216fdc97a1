import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfmeta.serving import tensor_codec, wire

DTYPES = [np.dtype(t) for _, t, field in tensor_codec.TYPES.values() if field != "string_val"]


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)), st.booleans())
def test_numbers_round_trip(array, typed):
    proto = wire.TensorProto()
    tensor_codec.encode(array, proto, typed=typed)
    decoded = tensor_codec.decode(wire.TensorProto.FromString(proto.SerializeToString()))
    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), max_size=4))
def test_strings_round_trip(rows):
    proto = wire.TensorProto()
    tensor_codec.encode(np.array(rows, object).reshape(len(rows), 2), proto)
    decoded = tensor_codec.decode(proto)
    assert [[v.decode() for v in row] for row in decoded] == rows


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_decode_of_any_bytes_gives_a_tensor_or_a_value_error(data):
    from google.protobuf.message import DecodeError

    try:
        proto = wire.TensorProto.FromString(data)
        assert isinstance(tensor_codec.decode(proto), np.ndarray)
    except (DecodeError, ValueError):
        pass


@pytest.mark.parametrize("typed", [False, True])
def test_same_bytes_as_tensorflow(typed):
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    for array in (np.arange(6, dtype=np.float32).reshape(2, 3), np.array([[True, False]]), np.array([b"a", b"b"]),
                  np.array([1.5, -2], np.float16), np.array([[1, -2]], np.int64), np.array([7], np.uint8)):
        proto = wire.TensorProto()
        tensor_codec.encode(array, proto, typed=typed)
        theirs = tensor_pb2.TensorProto.FromString(proto.SerializeToString())
        array = array.astype(object) if array.dtype.kind == "S" else array
        np.testing.assert_array_equal(tf.make_ndarray(theirs), array)
        ours = tensor_codec.decode(wire.TensorProto.FromString(tf.make_tensor_proto(array).SerializeToString()))
        np.testing.assert_array_equal(ours, array)


def test_fewer_values_than_elements_repeat_the_last():
    proto = wire.TensorProto(dtype=1, float_val=[1.0, 2.0])
    proto.tensor_shape.dim.add(size=4)
    np.testing.assert_array_equal(tensor_codec.decode(proto), [1, 2, 2, 2])
    del proto.float_val[:]
    np.testing.assert_array_equal(tensor_codec.decode(proto), [0, 0, 0, 0])


@pytest.mark.parametrize("change", ["content", "type", "negative", "huge", "rank"])
def test_malformed(change):
    proto = wire.TensorProto(dtype=1, tensor_content=b"\0" * 8)
    dim = proto.tensor_shape.dim.add(size=2)
    assert tensor_codec.decode(proto).shape == (2,)
    if change == "content":
        proto.tensor_content = b"\0" * 7
    elif change == "type":
        proto.dtype = 99
    elif change == "negative":
        dim.size = -1
    elif change == "rank":
        proto.tensor_shape.unknown_rank = True
    else:
        proto.tensor_content = b""
        dim.size = 1 << 40
    with pytest.raises(ValueError):
        tensor_codec.decode(proto)


def test_objects_that_are_no_strings_are_refused():
    with pytest.raises(ValueError, match="received 3"):
        tensor_codec.encode(np.array(["a", 3], object), wire.TensorProto())
    with pytest.raises(ValueError, match="complex"):
        tensor_codec.encode(np.array([1j]), wire.TensorProto())


def test_values_beyond_a_narrow_type_wrap():
    for dtype, field, value, expected in ((19, "half_val", 0x10000 + 0x3C00, 1.0), (4, "int_val", 256 + 7, 7),
                                          (6, "int_val", 128, -128), (17, "int_val", -1, 65535)):
        proto = wire.TensorProto(dtype=dtype)
        getattr(proto, field).append(value)
        assert tensor_codec.decode(proto) == expected


@pytest.mark.parametrize("shape", [(), (1,), (3, 0, 2), (2, 70_000), (1,) * 25 + (3,)])
@pytest.mark.parametrize("dtype", ["<i8", ">i8", "<f4", ">f4", "?"])
def test_shapes_and_byte_orders_come_back(shape, dtype):
    """Also those whose encoding is too long to be remembered (26 dimensions)."""
    array = (np.arange(np.prod(shape, dtype=int)) % 5).reshape(shape).astype(dtype)
    for view in (array, array.T):
        proto = wire.TensorProto()
        tensor_codec.encode(view, proto)
        for _ in range(2):
            decoded = tensor_codec.decode(proto)
            assert decoded.dtype == np.dtype(dtype).newbyteorder("=") and decoded.shape == view.shape
            np.testing.assert_array_equal(decoded, view)
