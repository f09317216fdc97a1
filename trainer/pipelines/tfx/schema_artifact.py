"""The Schema artifact: what TFX knows of the features, and beside it what this package knows of them."""

from tfmeta import config
from tfmeta.data.cleaning.columns import required_columns
from tfmeta.data.schema import Schema
from tfmeta.errors import ConfigError, DataError
from tfmeta.io import filesystem
from trainer.pipelines.steps.prepare import whole

FILE = "schema.pbtxt"
# Marks the annotation that holds the Schema.
TAG = "tfmeta.schema.v1"


def write_schema(schema: Schema, uri: str) -> str:
    """Writes `schema.pbtxt`: a tensorflow_metadata Schema that carries the whole `schema` as an annotation.

    Args:
      schema: of the Examples, see `examples_schema`.
      uri: of the artifact.

    Returns:
      the file's path.
    """
    from google.protobuf import json_format, struct_pb2, text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    kinds = {"string": schema_pb2.BYTES, "int64": schema_pb2.INT, "float32": schema_pb2.FLOAT}
    made = schema_pb2.Schema()
    described = {f.name: f for f in (*schema.user_features, *schema.item_features)}
    types = {schema.user_id: schema.user_id_dtype, schema.item_id: schema.item_id_dtype, schema.label.name: "float32",
             schema.timestamp: "int64", schema.title: "string"} | {n: f.dtype for n, f in described.items()}
    names = [name for kind in ("interactions", "users", "items")
             for name in required_columns(schema, kind, users=True, items=True)]
    for name in dict.fromkeys(names):
        feature = made.feature.add(name=name, type=kinds[types[name]])
        several = name in described and described[name].kind in ("multi_categorical", "dense_vector")
        feature.value_count.min = 1
        feature.value_count.max = (described[name].length or 1) if several else 1
        if name == schema.label.name:
            feature.float_domain.min, feature.float_domain.max = schema.label.minimum, schema.label.maximum
    annotation = made.annotation
    annotation.tag.append(TAG)
    annotation.extra_metadata.add().Pack(
        json_format.ParseDict(config.to_dict(schema), struct_pb2.Struct()), deterministic=True)
    path = filesystem.join(uri, FILE)
    filesystem.write_text(path, text_format.MessageToString(made))
    return path


def read_schema(path: str) -> Schema:
    """Returns the schema in a file of `write_schema`.

    Raises:
      DataError: if the file is no tensorflow_metadata Schema.
      ConfigError: if it has no such annotation, as that of a SchemaGen.
    """
    from google.protobuf import json_format, struct_pb2, text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        message = text_format.Parse(filesystem.read_text(path), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataError(f"Schema '{path}' requires a text proto of tensorflow_metadata: {error}.") from None
    found = struct_pb2.Struct()
    if TAG not in message.annotation.tag or not any(m.Unpack(found) for m in message.annotation.extra_metadata):
        raise ConfigError(f"Schema '{path}' does not say which features are users, items and labels. Say it in the "
                          "Trainer's custom_config: {'schema': {...}}, with the keys of a schema file.")
    return config.parse(Schema, whole(json_format.MessageToDict(found)), where="schema")
