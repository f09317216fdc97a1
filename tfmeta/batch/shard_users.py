"""The users of one shard: their features and their support."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.batch.item_table import ItemTable
from tfmeta.batch.latest_rows import codes_of
from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.serving.client.raw_values import missing_array


class ShardUsers:
    """Finds users' features and supports, for whole batches at a time.

    Args:
      spec: features of the model.
      interactions: those of the shard, users together and oldest first (`LatestRows.extract_output`).
      rows: one row a user with `feature:<name>` columns, or None where nothing is known of users.
      items: turns ids into inputs.
    """

    def __init__(self, spec: FeatureSpec, *, interactions: pa.Table, rows: pa.Table | None, items: ItemTable):
        codes, self.active = codes_of(interactions["user"])
        self._counts = np.bincount(codes, minlength=len(self.active) + 1).astype(np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._labels = np.append(interactions["label"].to_numpy().astype(np.float32), np.float32(0))
        item_codes, self._items = items.encode(interactions["item"])
        padding = len(next(iter(self._items.values()))) - 1
        self._item_codes = np.append(item_codes, padding)
        self._known = None if rows is None else rows["user"].combine_chunks()
        self._features = {f.name: _raw(None if rows is None else rows[f"feature:{f.name}"], f)
                          for f in spec.user_features}
        missing = np.zeros(1 if rows is None else rows.num_rows + 1, bool)
        for value in self._features.values():
            if value.dtype.kind == "f":
                missing |= np.isnan(value).reshape(len(value), -1).any(axis=1)
        self._missing = missing

    def find(self, users: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Returns (row of the features, number of the support) of each user `[n]`; the last ones are nobody's."""
        rows = np.zeros(len(users), np.int64) if self._known is None else _places(users, self._known)
        return rows, _places(users, self.active)

    def support_counts(self, supports: np.ndarray) -> np.ndarray:
        """Returns the interactions of each user `[n]`."""
        return self._counts[supports]

    def features(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns feature name -> raw values `[n, ...]`."""
        return {name: value[rows] for name, value in self._features.items()}

    def lacks_number(self, rows: np.ndarray) -> np.ndarray:
        """Returns whether a number of the user is missing, `[n]`: the graph then says that it replaced one."""
        return self._missing[rows]

    def support(self, supports: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Returns (item feature -> `[n, S, ...]`, labels `[n, S]`, lengths `[n]` int32); S is at least 1."""
        counts = self._counts[supports]
        column = np.arange(max(1, int(counts.max(initial=0))))[None, :]
        index = np.where(column < counts[:, None], self._starts[supports][:, None] + column, len(self._labels) - 1)
        codes = self._item_codes[index]
        return {name: table[codes] for name, table in self._items.items()}, self._labels[index], counts.astype(np.int32)


def last_rows(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Returns (the last row of every user in the order of the input, the rows before it)."""
    table = table.combine_chunks().take(pa.array(np.argsort(table["position"].to_numpy(), kind="stable")))
    codes, distinct = codes_of(table["user"])
    last = np.zeros(len(distinct), np.int64)
    last[codes] = np.arange(len(codes))  # the last assignment counts
    keep = np.zeros(len(codes), bool)
    keep[last] = True
    return table.filter(pa.array(keep)), table.filter(pa.array(~keep))


def _places(users: pa.Array, known: pa.Array) -> np.ndarray:
    found = pc.index_in(users, value_set=known)
    return pc.fill_null(found, len(known)).to_numpy(zero_copy_only=False).astype(np.int64)


def _raw(column: pa.ChunkedArray | None, feature: Feature) -> np.ndarray:
    """Cleaned values `[n]` as raw ones `[n + 1, ...]`, the last one missing."""
    nothing = missing_array(feature, 1)
    if column is None:
        return nothing
    column = column.combine_chunks()
    if not feature.raw_shape:
        if feature.dtype == "float32":
            values = pc.fill_null(column, np.nan).to_numpy(zero_copy_only=False).astype(np.float32)
        else:
            values = pc.fill_null(column, feature.missing).to_numpy(zero_copy_only=False)
        return np.concatenate([values, nothing])
    array = missing_array(feature, len(column) + 1)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    inside = np.arange(feature.length)[None, :] < lengths[:, None]
    array[:-1][inside] = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    return array
