"""MovieLens-100K: atomic files (`ml-100k.inter`, `.item`, `.user`), or GroupLens's own."""

import dataclasses
import re

import numpy as np
import pyarrow as pa

from tfmeta.data.cleaning.assemble import assemble
from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers.delimited_file import DelimitedFile
from tfmeta.data.schema import Schema
from tfmeta.errors import DataError
from tfmeta.io import filesystem

_ATOMIC = CsvOptions(separator="\t", quote=None)
_TABBED = CsvOptions(separator="\t", quote=None, encoding="latin-1")
_BARRED = CsvOptions(separator="|", quote=None, encoding="latin-1")
# Column of an atomic file -> name here.
_NAMES = {"movie_title": "title", "release_year": "year", "class": "genres", "zip_code": "zip"}
# The order of the flags in u.item, as u.genre has it.
_GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
           "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")
_YEAR = re.compile(r"(?:^|-)(\d{4})$")


def schema() -> Schema:
    """Returns the schema of the data set."""
    return Schema(
        label=LabelSchema(name="rating", unit="rating", minimum=1.0, maximum=5.0, threshold=4.0),
        user_id_dtype="int64", item_id_dtype="int64", timestamp="timestamp", title="title",
        user_features=(FeatureSchema("age", "numeric"), FeatureSchema("gender", "categorical"),
                       FeatureSchema("occupation", "categorical"), FeatureSchema("zip", "categorical")),
        item_features=(FeatureSchema("genres", "multi_categorical", length=8),
                       FeatureSchema("year", "categorical"), FeatureSchema("release_year", "numeric")))


def read(source: str, *, schema: Schema | None = None, progress: bool = False) -> RawData:
    """Reads a directory with the atomic files, else one with GroupLens's `u.data`, `u.user` and `u.item`.

    Args:
      source: the directory.
      schema: replaces the schema of this module, to take fewer features or another `max_bad_share`.
      progress: show progress on stderr.

    Raises:
      DataError: if a file is missing or too many rows are bad.
    """
    source = str(source)
    atomic = filesystem.exists(filesystem.join(source, "ml-100k.inter"))
    for name in ("ml-100k.item", "ml-100k.user") if atomic else ("u.data", "u.user", "u.item"):
        if not filesystem.exists(filesystem.join(source, name)):
            raise DataError(f"MovieLens-100K requires file '{name}' in '{source}', received none. "
                            "Unpack ml-100k.zip of GroupLens there; "
                            "'tfmeta data prepare' without --source downloads it.")
    schema = schema or globals()["schema"]()
    interactions, users, items = (_atomic if atomic else _grouplens)(source, progress)
    return assemble(schema, interactions=interactions, users=users, items=[_item_features(items)])


def _atomic(source: str, progress: bool):
    def chunks(suffix, show=False):
        name = f"ml-100k.{suffix}"
        return DelimitedFile(filesystem.join(source, name), name=name, options=_ATOMIC,
                             rename=_atomic_name).chunks(progress=show)

    items = Chunk.concat(list(chunks("item")))
    genres = pa.array([None if v is None else v.split() for v in items.columns["genres"].to_pylist()],
                      pa.list_(pa.string()))
    return (chunks("inter", progress), chunks("user"),
            dataclasses.replace(items, columns={**items.columns, "genres": genres}))


def _atomic_name(column: str) -> str:
    name = column.partition(":")[0].strip()
    return _NAMES.get(name, name)


def _grouplens(source: str, progress: bool):
    def chunks(name, options, columns, show=False):
        return DelimitedFile(filesystem.join(source, name), name=name, options=options, columns=columns).chunks(
            progress=show)

    items = Chunk.concat(list(chunks("u.item", _BARRED, ("item_id", "title", "year", "video", "link", *_GENRES))))
    flags = np.stack([np.array(items.columns[g].to_pylist(), object) == "1" for g in _GENRES], axis=1)
    genres = [[g for g, flag in zip(_GENRES, row, strict=True) if flag] for row in flags]
    columns = {"item_id": items.columns["item_id"], "title": items.columns["title"], "year": items.columns["year"],
               "genres": pa.array(genres, pa.list_(pa.string()))}
    return (chunks("u.data", _TABBED, ("user_id", "item_id", "rating", "timestamp"), progress),
            chunks("u.user", _BARRED, ("user_id", "age", "gender", "occupation", "zip")),
            dataclasses.replace(items, columns=columns))


def _item_features(items: Chunk) -> Chunk:
    """Cuts the year out of `1995` or `01-Jan-1995`; what is neither is missing (the files have such values)."""
    matches = [_YEAR.search(v or "") for v in items.columns["year"].to_pylist()]
    year = pa.array([m.group(1) if m else None for m in matches], pa.string())
    return dataclasses.replace(items, columns={**items.columns, "year": year, "release_year": year})
