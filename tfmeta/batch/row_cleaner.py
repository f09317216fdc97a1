"""Raw rows of one kind as the columns that the job works on."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.feature_column import FeatureColumn
from tfmeta.data.cleaning.values import plain, to_floats, to_integers, to_strings, to_times
from tfmeta.data.feature import Feature
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.feature_spec import FeatureSpec

POSITION = "position"
REJECTED = pa.schema([("file", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("content", pa.string())])
_IDS = {"string": pa.string(), "int64": pa.int64()}


class RowCleaner:
    """Converts chunks of `interactions`, `candidates` or `users`, and says which rows are bad.

    The table has `user`, then `item`, `label` (float32) and `time` (int64) or one column a user feature, then
    `position`: the order of the input, through all files of a kind.

    Args:
      kind: of the rows.
      spec: features of the model.
      columns: what is needed -> column of the file (`InputSplit.columns`).
      file: number of the file.
    """

    def __init__(self, kind: str, spec: FeatureSpec, *, columns: dict[str, str], file: int):
        self._kind, self._spec, self._columns = kind, spec, columns
        self._start = file << 40
        self._features = [(f, _converter(f, columns[f"feature:{f.name}"])) for f in spec.user_features
                          ] if kind == "users" else []

    @staticmethod
    def schema(kind: str, spec: FeatureSpec) -> pa.Schema:
        """Columns of the table of a kind."""
        fields = [("user", _IDS[spec.user_id.dtype])]
        if kind != "users":
            fields.append(("item", _IDS[spec.item_id.dtype]))
        if kind == "interactions":
            fields += [("label", pa.float32()), ("time", pa.int64())]
        if kind == "users":
            fields += [(f"feature:{f.name}", _arrow_type(f)) for f in spec.user_features]
        return pa.schema([*fields, (POSITION, pa.int64())])

    def clean(self, chunk: Chunk) -> tuple[pa.Table, pa.Table, dict[str, int]]:
        """Returns the good rows, the bad ones (`REJECTED`) and the count of feature values taken as missing.

        Raises:
          DataError: if a column holds lists or records where single values are required.
        """
        count = len(chunk.rows)
        reason = np.full(count, None, object)
        columns = {"user": self._ids(chunk, "user", self._spec.user_id, reason)}
        if self._kind != "users":
            columns["item"] = self._ids(chunk, "item", self._spec.item_id, reason)
        if self._kind == "interactions":
            columns["label"], columns["time"] = self._label(chunk, reason), self._time(chunk, reason)
        replaced = {}
        for feature, converter in self._features:
            values, bad = converter.convert(chunk.columns[converter.feature.column])
            columns[f"feature:{feature.name}"] = values
            if bad.any():
                replaced[f"bad_feature:{feature.name}"] = int(bad.sum())
        columns[POSITION] = pa.array(self._start + chunk.rows)
        good = np.equal(reason, None)
        table = pa.table(columns, schema=self.schema(self._kind, self._spec))
        rejected = [(chunk.file, int(chunk.rows[p]), reason[p], chunk.content(int(p))) for p in np.flatnonzero(~good)]
        rejected += [(chunk.file, row, why, content) for row, why, content in chunk.malformed]
        bad = pa.Table.from_arrays([pa.array([r[i] for r in rejected], field.type)
                                    for i, field in enumerate(REJECTED)], schema=REJECTED)
        return (table if good.all() else table.filter(pa.array(good))), bad, replaced

    def _ids(self, chunk: Chunk, name: str, feature: Feature, reason: np.ndarray) -> pa.Array:
        array, column = chunk.columns[self._columns[name]], self._columns[name]
        if feature.dtype == "int64":
            values, present, good = to_integers(array, column)
            _mark(reason, ~present | (good & (values == feature.missing)), f"missing_{name}")
            _mark(reason, ~good, f"bad_{name}")
            return pa.array(values)
        strings = to_strings(array, column)
        _mark(reason, _is_null(strings), f"missing_{name}")
        return strings

    def _label(self, chunk: Chunk, reason: np.ndarray) -> pa.Array:
        if "label" not in self._columns:
            return pa.array(np.ones(len(chunk.rows), np.float32))
        values, present, good = to_floats(chunk.columns[self._columns["label"]], self._columns["label"])
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(np.float32)
        _mark(reason, ~present, "missing_label")
        _mark(reason, ~(good & np.isfinite(np.where(good, values, np.nan))), "bad_label")
        return pa.array(values)

    def _time(self, chunk: Chunk, reason: np.ndarray) -> pa.Array:
        if "time" not in self._columns:
            return pa.array(np.zeros(len(chunk.rows), np.int64))
        column = self._columns["time"]
        array = plain(chunk.columns[column], column)
        if pa.types.is_timestamp(array.type):
            # Two events of one second have an order.
            _mark(reason, _is_null(array), "missing_time")
            return pc.fill_null(pc.cast(pc.cast(array, pa.timestamp("us", tz=array.type.tz), safe=False),
                                        pa.int64()), 0)
        values, present, good = to_times(array, column)
        _mark(reason, ~present, "missing_time")
        _mark(reason, ~good, "bad_time")
        return pa.array(values)


def _mark(reason: np.ndarray, bad: np.ndarray, word: str) -> None:
    """The first reason of a row counts."""
    if bad.any():
        reason[bad & np.equal(reason, None)] = word


def _is_null(array: pa.Array) -> np.ndarray:
    return array.is_null().to_numpy(zero_copy_only=False)


def _converter(feature: Feature, column: str) -> FeatureColumn:
    # The name of a declared feature must be an identifier; it is of no account here.
    hashed = {"hash_buckets": feature.hash_buckets} if feature.kind == "text" else {}
    length = feature.length if feature.kind in ("multi_categorical", "dense_vector") else None
    return FeatureColumn(FeatureSchema(name="value", kind=feature.kind, column=column, dtype=feature.dtype,
                                       length=length, **hashed))


def _arrow_type(feature: Feature) -> pa.DataType:
    if feature.kind == "dense_vector":
        return pa.list_(pa.float32())
    if feature.kind == "multi_categorical":
        return pa.list_(pa.string())
    return {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}[feature.dtype]
