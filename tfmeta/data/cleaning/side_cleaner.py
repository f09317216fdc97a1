"""Users or items: ids, features, title."""

import numpy as np
import pandas as pd
import pyarrow as pa

from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.columns import check_columns, required_columns
from tfmeta.data.cleaning.feature_column import FeatureColumn
from tfmeta.data.cleaning.id_table import IdTable
from tfmeta.data.cleaning.rejects import Rejects
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.schema import Schema


class SideCleaner:
    """Builds `RawData.users` or `RawData.items`, from files of their own or from the interactions.

    Args:
      schema: the declaration.
      side: `user` or `item`.
      rejects: where bad rows and values go.
    """

    def __init__(self, schema: Schema, side: str, *, rejects: Rejects):
        self.id_column, dtype, features = schema.side(side)
        self.side = side
        self.ids = IdTable(dtype)
        self.read = self.good = 0
        self._kind = f"{side}s"
        self._rejects = rejects
        self._required = required_columns(schema, self._kind)
        self._columns = [FeatureColumn(f) for f in features]
        if side == "item" and schema.title is not None and schema.title not in [f.name for f in features]:
            self._columns.append(FeatureColumn(FeatureSchema(name="title", kind="text", column=schema.title)))
        self._names = [c.feature.name for c in self._columns]
        if len(self._names) > len(features):
            self._names[-1] = schema.title

    def add(self, chunk: Chunk) -> None:
        """Adds rows of a users or items file. The last row of an id counts, missing values in it too."""
        check_columns(chunk.file, chunk.columns, self._required)
        self.read += chunk.read
        self._rejects.add_malformed(self._kind, chunk)
        ids, missing, bad = self.ids.read(chunk.columns[self.id_column], self.id_column)
        self._rejects.add(self._kind, chunk, f"missing_{self.side}_id", np.flatnonzero(missing))
        self._rejects.add(self._kind, chunk, f"bad_{self.side}_id", np.flatnonzero(bad))
        keep = np.flatnonzero(~missing & ~bad)
        self.good += len(keep)
        codes = self.ids.encode(ids.take(pa.array(keep)))
        self.add_features(chunk, keep, codes, kind=self._kind, skip_missing=False)

    def add_features(self, chunk: Chunk, keep: np.ndarray, codes: np.ndarray, *, kind: str,
                     skip_missing: bool) -> None:
        """Adds the feature values of rows `keep` of a chunk, whose ids have the codes given."""
        index = pa.array(keep)
        for column in self._columns:
            values, bad = column.convert(chunk.columns[column.feature.column].take(index))
            self._rejects.add(kind, chunk, f"bad_feature:{column.feature.name}", keep[bad])
            column.add(codes, values, skip_missing=skip_missing)

    def finish(self) -> tuple[pd.DataFrame, pa.Array, np.ndarray]:
        """Returns (frame, its ids in ascending order, `[U]` int32: code -> row)."""
        ids, place = self.ids.sorted()
        column = ids.to_pandas()
        if pa.types.is_string(ids.type):
            column = column.astype("str")
        columns = {f"{self.side}_id": column}
        for name, values in zip(self._names, self._columns, strict=True):
            columns[name] = values.series(place)
        return pd.DataFrame(columns), ids, place

    def counts(self) -> dict[str, int]:
        """Returns what became of the rows of the file."""
        return {"read": self.read, "kept": len(self.ids), "duplicates": self.good - len(self.ids),
                "rejected": self._rejects.rows(self._kind)}
