"""Interactions: quarantine, integer codes, duplicates."""

import numpy as np
import pyarrow as pa

from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.columns import check_columns, required_columns
from tfmeta.data.cleaning.id_table import IdTable
from tfmeta.data.cleaning.rejects import Rejects
from tfmeta.data.cleaning.side_cleaner import SideCleaner
from tfmeta.data.cleaning.values import to_floats, to_times
from tfmeta.data.interactions import Interactions
from tfmeta.data.schema import Schema


class InteractionCleaner:
    """Turns chunks of raw interactions into compact columns: 20 bytes a row are all that is kept.

    Args:
      schema: the declaration.
      users, items: tables of ids, closed where there is a users (items) file.
      sides: cleaners of the sides whose features are columns of the interactions.
      rejects: where bad rows go.
    """

    def __init__(self, schema: Schema, *, users: IdTable, items: IdTable, sides: tuple[SideCleaner, ...],
                 rejects: Rejects):
        self._schema = schema
        self._ids = {"user": users, "item": items}
        self._sides = sides
        self._rejects = rejects
        self._required = required_columns(schema, "interactions", users=users.closed, items=items.closed)
        self._parts: list[tuple[np.ndarray, ...]] = []
        self.read = self.duplicates = 0

    def add(self, chunk: Chunk) -> None:
        """Checks a chunk; keeps the good rows, quarantines the others."""
        check_columns(chunk.file, chunk.columns, self._required)
        self.read += chunk.read
        self._rejects.add_malformed("interactions", chunk)
        good = np.ones(len(chunk.rows), bool)

        def quarantine(reason: str, mask: np.ndarray) -> None:
            # The first reason of a row is the one that is told.
            self._rejects.add("interactions", chunk, reason, np.flatnonzero(mask & good))
            good[mask] = False

        ids = {}
        for side, table in self._ids.items():
            name = self._schema.side(side)[0]
            ids[side], missing, bad = table.read(chunk.columns[name], name)
            quarantine(f"missing_{side}_id", missing)
            quarantine(f"bad_{side}_id", bad)
        label = self._label(chunk, quarantine)
        time = self._time(chunk, quarantine)
        codes = {}
        for side, table in self._ids.items():
            if table.closed:
                keep = np.flatnonzero(good)
                unknown = np.zeros(len(good), bool)
                unknown[keep] = table.encode(ids[side].take(pa.array(keep))) < 0
                quarantine(f"unknown_{side}", unknown)
        keep = np.flatnonzero(good)
        for side, table in self._ids.items():
            codes[side] = table.encode(ids[side].take(pa.array(keep)))
        for side in self._sides:
            side.add_features(chunk, keep, codes[side.side], kind="interactions", skip_missing=True)
        self._parts.append((codes["user"], codes["item"], label[keep], time[keep]))

    def _label(self, chunk: Chunk, quarantine) -> np.ndarray:
        schema = self._schema.label
        if schema.implicit:
            return np.ones(len(chunk.rows), np.float32)
        values, present, number = to_floats(chunk.columns[schema.name], schema.name)
        # In a column of floats NaN is how data frames spell missing; either way the row is bad.
        quarantine("missing_label", ~present)
        quarantine("label_not_a_number", present & ~number)
        finite = np.isfinite(values)
        quarantine("label_not_finite", number & ~finite)
        values = np.where(finite, values, schema.minimum)
        quarantine("label_out_of_range", (values < schema.minimum) | (values > schema.maximum))
        if schema.unit == "click":
            quarantine("label_not_0_or_1", (values != 0) & (values != 1))
        return np.clip(values, schema.minimum, schema.maximum).astype(np.float32)

    def _time(self, chunk: Chunk, quarantine) -> np.ndarray:
        name = self._schema.timestamp
        if name is None:
            return np.zeros(len(chunk.rows), np.int64)
        values, present, good = to_times(chunk.columns[name], name)
        quarantine("missing_timestamp", ~present)
        quarantine("bad_timestamp", present & ~good)
        return values

    def finish(self, user_place: np.ndarray | None, item_place: np.ndarray | None) -> Interactions:
        """Drops duplicates of (user, item): the last by time, then by order, stays.

        Args:
          user_place, item_place: code -> row of the frame; None where codes are rows already.

        Returns:
          What is left, in the original order.
        """
        dtypes = (np.int32, np.int32, np.float32, np.int64)
        user, item, label, time = (
            np.concatenate([p[i] for p in self._parts]) if self._parts else np.zeros(0, dtype)
            for i, dtype in enumerate(dtypes))
        self._parts = []
        user = user if user_place is None else user_place[user]
        item = item if item_place is None else item_place[item]
        keep = last_of_pairs(user, item, time)
        self.duplicates = int(len(user) - keep.sum())
        if self.duplicates:
            user, item, label, time = user[keep], item[keep], label[keep], time[keep]
        return Interactions(user_row=user, item_row=item, label=label, time=time)


def last_of_pairs(user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Returns `[N]` bool: whether a row is the last one, by time and then by order, of its (user, item)."""
    keep = np.ones(len(user), bool)
    pair = user.astype(np.int64) * (int(item.max(initial=0)) + 1) + item
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return keep
    # Only the rows that have a double are sorted again, by time.
    double = np.zeros(len(pair), bool)
    double[1:] |= same
    double[:-1] |= same
    rows = np.sort(order[double])
    rows = rows[np.lexsort((time[rows], pair[rows]))]
    keep[rows[:-1][pair[rows[1:]] == pair[rows[:-1]]]] = False
    return keep
