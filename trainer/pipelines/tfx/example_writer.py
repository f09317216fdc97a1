"""Raw data as tf.Examples, in the files of an Examples artifact."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.io import filesystem

SPLITS = ("interactions", "users", "items")
SHARD_ROWS = 200_000


def split_folder(uri: str, split: str) -> str:
    """Returns the folder of a split of an Examples artifact."""
    return filesystem.join(uri, f"Split-{split}")


def write_examples(raw: RawData, uri: str, *, shard_rows: int = SHARD_ROWS) -> dict[str, int]:
    """Writes one split each of interactions, users and items: gzipped TFRecord files, a tf.Example per row.

    Interactions keep their order. Columns are named as in `examples_schema`; a missing value is an absent list, a
    list or vector is a list of values.

    Args:
      raw: clean data.
      uri: of the artifact, on any file system.
      shard_rows: most rows in one file.

    Returns:
      split -> number of rows.
    """
    written = {}
    for split, columns in zip(SPLITS, (_interactions(raw), _side(raw, "user"), _items(raw)), strict=True):
        folder, rows = split_folder(uri, split), len(next(iter(columns.values()))[0])
        filesystem.makedirs(folder)
        shards = max(1, -(-rows // shard_rows))
        for shard in range(shards):
            part = slice(shard * shard_rows, (shard + 1) * shard_rows)
            path = filesystem.join(folder, f"data_tfrecord-{shard:05d}-of-{shards:05d}.gz")
            _write(path, _records({name: (values[part], encode) for name, (values, encode) in columns.items()}))
        written[split] = rows
    return written


def examples_schema(schema: Schema) -> Schema:
    """Returns the schema of what `write_examples` writes: the same, with every feature in a column of its own name."""
    def named(features: tuple[FeatureSchema, ...]) -> tuple[FeatureSchema, ...]:
        return tuple(dataclasses.replace(f, column=f.name) for f in features)

    return dataclasses.replace(schema, user_features=named(schema.user_features), csv=type(schema.csv)(),
                               item_features=named(schema.item_features), interactions=None, users=None, items=None)


_Columns = dict[str, tuple[Any, Callable[[Any], Any]]]


def _interactions(raw: RawData) -> _Columns:
    schema, rows = raw.schema, raw.interactions
    columns: _Columns = {
        schema.user_id: (raw.users["user_id"].to_numpy(object)[rows.user_row], _encoder(schema.user_id_dtype)),
        schema.item_id: (raw.items["item_id"].to_numpy(object)[rows.item_row], _encoder(schema.item_id_dtype))}
    if not schema.label.implicit:
        columns[schema.label.name] = (rows.label, _encoder("float32"))
    if schema.timestamp is not None:
        columns[schema.timestamp] = (rows.time, _encoder("int64"))
    return columns


def _side(raw: RawData, side: str) -> _Columns:
    frame, (id_name, id_dtype, features) = getattr(raw, f"{side}s"), raw.schema.side(side)
    columns: _Columns = {id_name: (frame[f"{side}_id"].to_numpy(object), _encoder(id_dtype))}
    for feature in features:
        columns[feature.name] = (frame[feature.name].to_numpy(object), _feature_encoder(feature))
    return columns


def _items(raw: RawData) -> _Columns:
    columns, title = _side(raw, "item"), raw.schema.title
    if title is not None and title not in columns:
        columns[title] = (raw.items[title].to_numpy(object), _text)
    return columns


def _feature_encoder(feature: FeatureSchema) -> Callable[[Any], Any]:
    if feature.kind == "multi_categorical":
        return lambda value: _bytes(value) if len(value) else None
    if feature.kind == "dense_vector":
        return lambda value: None if np.isnan(value).all() else _floats(value)
    if feature.dtype == "int64":
        return lambda value: None if value == feature.missing else _integers([value])
    return _encoder(feature.dtype)


def _encoder(dtype: str) -> Callable[[Any], Any]:
    return {"string": _text, "int64": lambda value: _integers([value]), "float32": _number}[dtype]


def _text(value: Any):
    return _bytes([value]) if isinstance(value, str) and value else None


def _number(value: float):
    return None if np.isnan(value) else _floats([value])


def _bytes(values):
    from tensorflow.core.example import feature_pb2

    return feature_pb2.Feature(bytes_list=feature_pb2.BytesList(value=[v.encode("utf-8") for v in values]))


def _floats(values):
    from tensorflow.core.example import feature_pb2

    return feature_pb2.Feature(float_list=feature_pb2.FloatList(value=values))


def _integers(values):
    from tensorflow.core.example import feature_pb2

    return feature_pb2.Feature(int64_list=feature_pb2.Int64List(value=values))


def _records(columns: _Columns) -> Iterator[bytes]:
    from tensorflow.core.example import example_pb2, feature_pb2

    names, encoders = list(columns), [encode for _, encode in columns.values()]
    for row in zip(*(values for values, _ in columns.values()), strict=True):
        features = {name: made for name, encode, value in zip(names, encoders, row, strict=True)
                    if (made := encode(value)) is not None}
        yield example_pb2.Example(features=feature_pb2.Features(feature=features)).SerializeToString(
            deterministic=True)


def _write(path: str, records: Iterator[bytes]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for record in records:
            writer.write(record)
