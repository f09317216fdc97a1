"""The tables of a prepared directory, made deterministic down to the bytes."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.interactions import Interactions
from tfmeta.data.raw_data import RawData
from tfmeta.data.splits.split import PARTITIONS

# Rows of a row group of train.parquet: small beside memory, large beside what reading one costs.
ROWS_PER_GROUP = 131_072
_TRAIN = {"user_row": np.int32, "item_row": np.int32, "label": np.float32, "time": np.int64}
_SCALARS = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}


def side_table(raw: RawData, side: str, partition: np.ndarray, *, title: str | None = None) -> pa.Table:
    """Returns `users.parquet` or `items.parquet`.

    Args:
      raw: the data.
      side: `user` or `item`.
      partition: `[U]` or `[I]` index into `PARTITIONS`.
      title: column that people read, to be kept beside the features.
    """
    frame = raw.users if side == "user" else raw.items
    _, id_dtype, features = raw.schema.side(side)
    columns = {f"{side}_id": pa.array(frame[f"{side}_id"].tolist(), _SCALARS[id_dtype]),
               "partition": pa.array(np.asarray(PARTITIONS, object)[partition], pa.string())}
    if title is not None:
        columns[title] = pa.array(frame[title].tolist(), pa.string())
    for feature in features:
        columns[feature.name] = feature_array(frame[feature.name], feature)
    return pa.table(columns)


def write_train(interactions: Interactions, train: np.ndarray, *, path: str,
                rows_per_group: int = ROWS_PER_GROUP) -> None:
    """Writes `train.parquet`: rows of the mask `[N]` by user row, time and original order.

    A row group has whole users, and at most `rows_per_group` rows unless one user has more. No more than one is
    copied at a time; beside it sorting takes 16 bytes a row.

    Args:
      interactions: N rows in any order.
      train: `[N]` bool.
      path: of the file, on a local disk.
      rows_per_group: rows of a row group.
    """
    user, row = _by_user(interactions.user_row, train)
    start = np.concatenate([[0], np.flatnonzero(user[1:] != user[:-1]) + 1, [len(row)]])  # of each user, and the end
    schema = pa.schema([(name, pa.from_numpy_dtype(dtype)) for name, dtype in _TRAIN.items()])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        first = 0
        while first < len(start) - 1 and len(row):
            stop = max(first + 1, int(np.searchsorted(start, start[first] + rows_per_group, side="right")) - 1)
            group = row[start[first]:start[stop]]
            group = group[np.lexsort((interactions.time[group], interactions.user_row[group]))]
            columns = {n: pa.array(getattr(interactions, n)[group].astype(d, copy=False)) for n, d in _TRAIN.items()}
            writer.write_table(pa.table(columns, schema=schema), row_group_size=len(group))
            first = stop


def _by_user(user_row: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (user, row) uint32 of the chosen rows, sorted by both; views of one array of 8 bytes a row."""
    row = np.flatnonzero(chosen).astype(np.uint32)
    both = user_row[row].astype("<i8")
    both <<= 32
    both |= row
    del row
    both.sort()
    words = both.view("<u4").reshape(-1, 2)
    return words[:, 1], words[:, 0]


def rejected_table(rejected: pd.DataFrame) -> pa.Table:
    """Returns `rejected.parquet`: `file, row, reason, content`."""
    return pa.table({"file": pa.array(rejected["file"].tolist(), pa.string()),
                     "row": pa.array(rejected["row"].tolist(), pa.int64()),
                     "reason": pa.array(rejected["reason"].tolist(), pa.string()),
                     "content": pa.array(rejected["content"].tolist(), pa.string())})


def padded_lists(values: dict[str, np.ndarray], length: np.ndarray) -> dict[str, pa.Array]:
    """Turns padded `[T, Q]` arrays into list columns of the real values."""
    offsets = pa.array(np.append(0, np.cumsum(length)).astype(np.int32))
    return {name: pa.ListArray.from_arrays(
        offsets, pa.array(array[np.arange(array.shape[1])[None, :] < length[:, None]], pa.float32()))
        for name, array in values.items()}


def to_bytes(table: pa.Table) -> bytes:
    """Returns the table as Parquet; the same table gives the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def feature_array(values: pd.Series, feature: FeatureSchema) -> pa.Array:
    """Returns a feature column of `RawData` as Arrow writes it."""
    if feature.kind == "multi_categorical":
        return pa.array(values.tolist(), pa.list_(pa.string()))
    if feature.kind == "dense_vector":
        flat = np.concatenate(values.tolist()) if len(values) else np.zeros(0, np.float32)
        offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32) * feature.length)
        return pa.ListArray.from_arrays(offsets, pa.array(flat.astype(np.float32), from_pandas=False))
    if feature.dtype == "string":
        return pa.array(values.tolist(), pa.string())
    return pa.array(values.to_numpy(), _SCALARS[feature.dtype], from_pandas=False)
