"""Yelp, as a sequence of visits: `interactions.parquet` (user_id, item_id, time_rank) and `items.parquet`."""

import dataclasses

from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers import parquet_reader
from tfmeta.data.schema import Schema
from tfmeta.errors import DataError
from tfmeta.io import filesystem

_FILES = {"interactions": "interactions.parquet", "items": "items.parquet"}


def schema() -> Schema:
    """Returns the schema of the data set: every row is a positive; `time_rank` orders a user's rows."""
    return Schema(
        label=LabelSchema(unit="click", implicit=True), user_id_dtype="int64", item_id_dtype="int64",
        timestamp="time_rank", title="title", **_FILES,
        item_features=(FeatureSchema("categories", "multi_categorical", separator=", ", length=12),
                       FeatureSchema("title", "text", length=8, hash_buckets=4096)))


def read(source: str, *, schema: Schema | None = None, progress: bool = False) -> RawData:
    """Reads a directory with both files.

    Args:
      source: the directory.
      schema: replaces the schema of this module, to take fewer features or another `max_bad_share`.
      progress: show progress on stderr.

    Raises:
      DataError: if a file is missing or too many rows are bad.
    """
    for name in _FILES.values():
        if not filesystem.exists(filesystem.join(str(source), name)):
            raise DataError(f"Yelp requires file '{name}' in '{source}', received none.")
    schema = dataclasses.replace(schema or globals()["schema"](), **_FILES)
    return parquet_reader.read(source, schema=schema, progress=progress)
