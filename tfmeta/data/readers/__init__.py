"""Readers of raw data, by name.

A reader is a module with `read(source, *, schema=None, progress=False) -> RawData`.
"""

import importlib

from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.errors import ConfigError, suggest

READERS = {
    "ml-1m": "tfmeta.data.readers.movielens_1m",
    "ml-100k": "tfmeta.data.readers.movielens_100k",
    "yelp": "tfmeta.data.readers.yelp",
    "gift-cards": "tfmeta.data.readers.gift_cards",
    "csv": "tfmeta.data.readers.csv_reader",
    "parquet": "tfmeta.data.readers.parquet_reader",
}


def get_reader(name: str):
    """Returns the reader module of a name; ConfigError with the nearest name where there is none."""
    if name not in READERS:
        raise ConfigError(f"Unknown reader '{name}'.{suggest(name, READERS)}")
    return importlib.import_module(READERS[name])


def read(name: str, source: str, *, schema: Schema | None = None, progress: bool = False) -> RawData:
    """Reads and cleans raw data.

    Args:
      name: a key of `READERS`.
      source: the directory (or, for csv and parquet, one file) to read; any file system.
      schema: required by csv and parquet; the MovieLens readers have their own.
      progress: show a progress bar on stderr.

    Raises:
      ConfigError: if the reader is unknown or needs a schema.
      DataError: if files or columns are missing, or too many rows are bad.
    """
    return get_reader(name).read(source, schema=schema, progress=progress)
