"""The few TensorFlow Serving messages that a client needs, without importing TensorFlow.

The generated classes of `tensorflow_serving.apis` import TensorFlow, which costs seconds and hundreds of
megabytes. The messages here have the same field numbers and types, so their bytes are the same; they live under
the package `tfmeta.wire`, so that they never collide with TensorFlow's own in one process. Field numbers are
those of tensorflow/core/framework/{tensor, tensor_shape}.proto, tensorflow/core/example/{example, feature}.proto and
tensorflow_serving/apis/{model, predict, get_model_status}.proto.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from google.protobuf.message import DecodeError

PACKAGE = "tfmeta.wire"
PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"
STATUS_METHOD = "/tensorflow.serving.ModelService/GetModelStatus"

_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"int32": _F.TYPE_INT32, "int64": _F.TYPE_INT64, "uint32": _F.TYPE_UINT32, "uint64": _F.TYPE_UINT64,
            "float": _F.TYPE_FLOAT, "double": _F.TYPE_DOUBLE, "bool": _F.TYPE_BOOL, "string": _F.TYPE_STRING,
            "bytes": _F.TYPE_BYTES}

# message -> (field, number, type); `*` marks a repeated field, `map:` a map from string, `name|oneof` a member
# of a oneof. Enums are int32 here: the bytes are the same.
_MESSAGES = {
    "Dim": (("size", 1, "int64"), ("name", 2, "string")),
    "TensorShapeProto": (("dim", 2, "*Dim"), ("unknown_rank", 3, "bool")),
    "TensorProto": (
        ("dtype", 1, "int32"), ("tensor_shape", 2, "TensorShapeProto"), ("version_number", 3, "int32"),
        ("tensor_content", 4, "bytes"), ("float_val", 5, "*float"), ("double_val", 6, "*double"),
        ("int_val", 7, "*int32"), ("string_val", 8, "*bytes"), ("int64_val", 10, "*int64"),
        ("bool_val", 11, "*bool"), ("half_val", 13, "*int32"), ("uint32_val", 16, "*uint32"),
        ("uint64_val", 17, "*uint64")),
    "ModelSpec": (("name", 1, "string"), ("version|version_choice", 2, "google.protobuf.Int64Value"),
                  ("signature_name", 3, "string"), ("version_label|version_choice", 4, "string")),
    "PredictRequest": (("model_spec", 1, "ModelSpec"), ("inputs", 2, "map:TensorProto"),
                       ("output_filter", 3, "*string")),
    "PredictResponse": (("outputs", 1, "map:TensorProto"), ("model_spec", 2, "ModelSpec")),
    "StatusProto": (("error_code", 1, "int32"), ("error_message", 2, "string")),
    "ModelVersionStatus": (("version", 1, "int64"), ("state", 2, "int32"), ("status", 3, "StatusProto")),
    "GetModelStatusRequest": (("model_spec", 1, "ModelSpec"),),
    "GetModelStatusResponse": (("model_version_status", 1, "*ModelVersionStatus"),),
    "BytesList": (("value", 1, "*bytes"),),
    "FloatList": (("value", 1, "*float"),),
    "Int64List": (("value", 1, "*int64"),),
    "Feature": (("bytes_list|kind", 1, "BytesList"), ("float_list|kind", 2, "FloatList"),
                ("int64_list|kind", 3, "Int64List")),
    "Features": (("feature", 1, "map:Feature"),),
    "Example": (("features", 1, "Features"),),
}


def _set_type(field: descriptor_pb2.FieldDescriptorProto, name: str) -> None:
    if name in _SCALARS:
        field.type = _SCALARS[name]
    else:
        field.type = _F.TYPE_MESSAGE
        field.type_name = f".{name}" if "." in name else f".{PACKAGE}.{name}"


def _add_message(file: descriptor_pb2.FileDescriptorProto, name: str, fields) -> None:
    message = file.message_type.add(name=name)
    for field_name, number, kind in fields:
        field_name, _, oneof = field_name.partition("|")
        field = message.field.add(name=field_name, number=number, label=_F.LABEL_OPTIONAL)
        if kind.startswith("map:"):
            # A map is a repeated entry message with key 1 and value 2.
            entry = message.nested_type.add(name=f"{field_name.title()}Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_F.LABEL_OPTIONAL, type=_F.TYPE_STRING)
            _set_type(entry.field.add(name="value", number=2, label=_F.LABEL_OPTIONAL), kind[4:])
            field.label = _F.LABEL_REPEATED
            field.type, field.type_name = _F.TYPE_MESSAGE, f".{PACKAGE}.{name}.{entry.name}"
        else:
            if kind.startswith("*"):
                field.label, kind = _F.LABEL_REPEATED, kind[1:]
            _set_type(field, kind)
        if oneof:
            if oneof not in [o.name for o in message.oneof_decl]:
                message.oneof_decl.add(name=oneof)
            field.oneof_index = [o.name for o in message.oneof_decl].index(oneof)


def _build() -> dict[str, type]:
    file = descriptor_pb2.FileDescriptorProto(name="tfmeta/wire.proto", package=PACKAGE, syntax="proto3",
                                              dependency=[wrappers_pb2.DESCRIPTOR.name])
    for name, fields in _MESSAGES.items():
        _add_message(file, name, fields)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
            for name in _MESSAGES}


_CLASSES = _build()
TensorProto = _CLASSES["TensorProto"]
TensorShapeProto = _CLASSES["TensorShapeProto"]
ModelSpec = _CLASSES["ModelSpec"]
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
GetModelStatusRequest = _CLASSES["GetModelStatusRequest"]
GetModelStatusResponse = _CLASSES["GetModelStatusResponse"]
Example = _CLASSES["Example"]


def is_example(data: bytes) -> bool:
    """Whether bytes are a serialized tf.Example."""
    try:
        Example.FromString(data)
    except DecodeError:
        return False
    return True
