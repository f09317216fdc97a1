"""Raw rows as events."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.id_table import IdTable
from tfmeta.data.cleaning.values import to_floats, to_integers, to_strings, to_times
from tfmeta.data.feature_spec import FeatureSpec
from trainer.feedback.event_schema import EVENT_SCHEMA
from trainer.feedback.explode_lists import explode_lists

# The number of the row in the file, for messages; it is not kept.
ROW = "row"
BLOCK_SCHEMA = EVENT_SCHEMA.append(pa.field(ROW, pa.int64()))
_LAST_TIME = 7_258_118_400  # the year 2200; a time in milliseconds lies beyond
_FALSE, _TRUE = ("0", "false", "no", "f", "n"), ("1", "true", "yes", "t", "y")


class EventCleaner:
    """Converts chunks of requests or outcomes, and says which rows are bad.

    Args:
      kind: `request` or `outcome`.
      spec: of the model, with users as users; its label has the bounds.
      columns: event column -> column of the file (`resolve_columns`).
      source: name of the stream that the events come from, part of a derived event id.
    """

    def __init__(self, kind: str, spec: FeatureSpec, *, columns: dict[str, str], source: str = ""):
        self._kind, self._label, self._columns, self._source = kind, spec.label, columns, source

    def clean(self, chunk: Chunk) -> tuple[pa.Table, list[tuple[str, int, str, str]]]:
        """Returns the good rows (`BLOCK_SCHEMA`) and the bad ones as (file, row, reason, content).

        An event without an id gets one that hangs on source, kind, time, request, user and item alone.

        Raises:
          DataError: if a column holds lists or records where single values are required.
        """
        chunk = explode_lists(chunk, self._columns)
        count = len(chunk.rows)
        reason = np.full(count, None, object)
        columns = {"kind": pa.array([self._kind] * count, pa.string())}
        for name in ("user_id", "item_id"):
            ids, missing, bad = IdTable("string").read(chunk.columns[self._columns[name]], self._columns[name])
            _mark(reason, missing, f"missing_{name}")
            _mark(reason, bad, f"bad_{name}")
            columns[name] = ids
        columns["time"] = self._time(chunk, reason)
        columns["label"] = self._labels(chunk, reason)
        columns["score"] = self._floats(chunk, "score", reason)
        columns["model_version"] = self._integers(chunk, reason)
        columns["adapted"] = self._booleans(chunk, reason)
        for name in ("request_id", "event_id"):
            columns[name] = self._strings(chunk, name)
        good = np.equal(reason, None)
        rejected = [(chunk.file, int(chunk.rows[p]), reason[p], chunk.content(int(p))) for p in np.flatnonzero(~good)]
        rejected += [(chunk.file, row, why, content) for row, why, content in chunk.malformed]
        columns[ROW] = pa.array(chunk.rows)
        table = pa.table({name: columns[name] for name in BLOCK_SCHEMA.names}, schema=BLOCK_SCHEMA)
        table = table if good.all() else table.filter(pa.array(good))
        return self._with_ids(table), rejected

    def _with_ids(self, table: pa.Table) -> pa.Table:
        absent = pc.is_null(table["event_id"]).to_numpy()
        if not absent.any():
            return table
        rows = np.flatnonzero(absent)
        part = table.take(pa.array(rows))
        texts = pc.binary_join_element_wise(
            pa.scalar(self._source), pa.scalar(self._kind), pc.cast(part["time"], pa.string()), part["request_id"],
            part["user_id"], part["item_id"], "\x1f").to_pylist()
        # An id must be the same for ever: a published hash, not one of a library's that may change with its version.
        made = np.array([hashlib.blake2b(t.encode(), digest_size=16).hexdigest() for t in texts], object)
        ids = table["event_id"].to_numpy(zero_copy_only=False).astype(object)
        ids[rows] = made
        return table.set_column(0, EVENT_SCHEMA.field(0), pa.array(ids, pa.string()))

    def _time(self, chunk: Chunk, reason: np.ndarray) -> pa.Array:
        values, present, good = to_times(chunk.columns[self._columns["time"]], self._columns["time"])
        _mark(reason, ~present, "missing_time")
        _mark(reason, ~good, "bad_time")
        _mark(reason, (values < 0) | (values >= _LAST_TIME), "time_out_of_range")
        return pa.array(values)

    def _labels(self, chunk: Chunk, reason: np.ndarray) -> pa.Array:
        if "label" not in self._columns:
            known = self._kind == "outcome"
            return pa.array(np.ones(len(reason))) if known else pa.nulls(len(reason), pa.float64())
        if self._kind == "request":
            return self._floats(chunk, "label", reason)
        values, present, good = to_floats(chunk.columns[self._columns["label"]], self._columns["label"])
        _mark(reason, ~present, "missing_label")
        _mark(reason, ~good | ~np.isfinite(np.where(good, values, 0.0)), "bad_label")
        with np.errstate(invalid="ignore"):
            inside = (values >= self._label.minimum) & (values <= self._label.maximum)
        _mark(reason, ~inside, "label_out_of_range")
        return pa.array(values)

    def _floats(self, chunk: Chunk, name: str, reason: np.ndarray) -> pa.Array:
        if name not in self._columns:
            return pa.nulls(len(reason), pa.float64())
        values, present, good = to_floats(chunk.columns[self._columns[name]], self._columns[name])
        present &= ~np.isnan(values) | ~good
        _mark(reason, present & ~(good & np.isfinite(values)), f"bad_{name}")
        return pa.array(values, mask=~present)

    def _integers(self, chunk: Chunk, reason: np.ndarray) -> pa.Array:
        if "model_version" not in self._columns:
            return pa.nulls(len(reason), pa.int64())
        values, present, good = to_integers(chunk.columns[self._columns["model_version"]], "model_version")
        _mark(reason, present & ~good, "bad_model_version")
        return pa.array(values, mask=~present)

    def _booleans(self, chunk: Chunk, reason: np.ndarray) -> pa.Array:
        if "adapted" not in self._columns:
            return pa.nulls(len(reason), pa.bool_())
        words = pc.utf8_lower(to_strings(chunk.columns[self._columns["adapted"]], self._columns["adapted"]))
        true, false = (pc.is_in(words, value_set=pa.array(known)).to_numpy(zero_copy_only=False)
                       for known in (_TRUE, _FALSE))
        present = words.is_valid().to_numpy(zero_copy_only=False)
        _mark(reason, present & ~true & ~false, "bad_adapted")
        return pa.array(true, mask=~present)

    def _strings(self, chunk: Chunk, name: str) -> pa.Array:
        if name in self._columns:
            strings = to_strings(chunk.columns[self._columns[name]], self._columns[name])
        else:
            strings = pa.nulls(len(chunk.rows), pa.string())
        return strings if name == "event_id" else pc.fill_null(strings, "")


def _mark(reason: np.ndarray, bad: np.ndarray, word: str) -> None:
    """The first reason of a row counts."""
    if bad.any():
        reason[bad & np.equal(reason, None)] = word
