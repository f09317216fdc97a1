"""One file of events into the log: cleaned, rid of what is there already, by days, all or nothing."""

import datetime
import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.data.cleaning.chunk import Chunk, to_json
from tfmeta.data.prepared_tables import to_bytes
from tfmeta.data.too_many_bad_rows_error import TooManyBadRowsError
from tfmeta.io import filesystem
from trainer.feedback.event_cleaner import ROW, EventCleaner
from trainer.feedback.event_schema import EVENT_SCHEMA, day_of
from trainer.feedback.ledger import Ledger
from trainer.feedback.quarantine import first_rejected, rejected_frame, write_quarantine
from trainer.feedback.stored_events import stored_events

BLOCK_ROWS = 1 << 20
# So many rows say enough of the rest: a file of the wrong kind need not be read to its end.
_JUDGED_ROWS = 1 << 20
CONFLICT = "conflicting_event_id"
_CONTENT = [name for name in EVENT_SCHEMA.names if name != "event_id"]


def date_of(day: int) -> str:
    """Returns the day, counted from 1970-01-01, as `YYYY-MM-DD`."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=int(day))).isoformat()


def remove_part(path: str, part: str) -> None:
    """Removes a part of the log at `path`, and its day's folder if that is then empty."""
    filesystem.remove_tree(filesystem.join(path, part))
    folder = filesystem.join(path, part.rpartition("/")[0])
    if not filesystem.is_remote(path) and not filesystem.listdir(folder):
        filesystem.remove_tree(folder)


class IngestFile:
    """Takes the rows of one file in.

    At most `block_rows` rows (and one chunk) are held at once. Parts are named after their contents, so a file that is
    ingested again after a kill writes the same parts again; the ledger's entry, written last, is what makes them
    events of the log.

    Args:
      path: of the log.
      ledger: of the log.
      cleaner: for the file's rows.
      derived_ids: the file has no event ids of its own, so an event that is in the log is there on the same day.
      max_bad_share: highest share of bad rows.
      block_rows: rows that are compared with the log at once.
    """

    def __init__(self, path: str, *, ledger: Ledger, cleaner: EventCleaner, derived_ids: bool, max_bad_share: float,
                 block_rows: int = BLOCK_ROWS):
        self._path, self._ledger, self._cleaner = path, ledger, cleaner
        self._derived, self._max_bad_share, self._block_rows = derived_ids, max_bad_share, block_rows
        self._parts: list[dict] = []
        self._rejected: list[tuple[str, int, str, str]] = []
        self._read = self._taken = self._duplicates = 0

    def run(self, chunks: Iterable[Chunk], *, key: str, entry: dict) -> dict:
        """Takes all chunks in and writes the ledger's entry.

        Args:
          chunks: of the file, in order.
          key: name of the entry.
          entry: what else it says of the file.

        Returns:
          The entry.

        Raises:
          DataError: if the file cannot be read or (`TooManyBadRowsError`) too many rows are bad; then nothing of it is
            in the log.
        """
        self._file = entry["file"]
        pending: list[pa.Table] = []
        rows = 0
        for chunk in chunks:
            table, rejected = self._cleaner.clean(chunk)
            self._read += table.num_rows + len(rejected)
            self._rejected += rejected
            if self._read >= _JUDGED_ROWS:
                self._check_share()
            pending.append(table)
            rows += table.num_rows
            if rows >= self._block_rows:
                self._flush(pa.concat_tables(pending))
                pending, rows = [], 0
        if rows:
            self._flush(pa.concat_tables(pending))
        self._check_share()
        quarantine = None
        if self._rejected:
            quarantine = f"quarantine/{key}.parquet"
            write_quarantine(filesystem.join(self._path, quarantine), self._rejected)
        first = first_rejected(self._rejected)
        entry = {**entry, "read": self._read, "taken": self._taken, "duplicates": self._duplicates,
                 "quarantined": dict(sorted(Counter(r[2] for r in self._rejected).items())),
                 "first_bad": None if first is None else list(first), "quarantine": quarantine, "parts": self._parts}
        self._ledger.add(key, entry)
        return entry

    def discard(self) -> None:
        """Removes the parts of a file that was not taken in."""
        for part in self._parts:
            remove_part(self._path, part["path"])

    def _flush(self, table: pa.Table) -> None:
        table = self._without_known(table)
        if not table.num_rows:
            return
        table = table.drop_columns(ROW).sort_by([("time", "ascending"), ("event_id", "ascending")])
        day = day_of(table["time"].to_numpy())
        start = np.concatenate([[0], np.flatnonzero(day[1:] != day[:-1]) + 1, [len(day)]])
        for first, stop in zip(start[:-1].tolist(), start[1:].tolist(), strict=True):
            date = date_of(day[first])
            data = to_bytes(table.slice(first, stop - first).combine_chunks())
            name = f"date={date}/part-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
            filesystem.makedirs(filesystem.join(self._path, f"date={date}"))
            filesystem.write_bytes(filesystem.join(self._path, name), data)
            self._parts.append({"path": name, "date": date, "rows": stop - first})
        self._taken += table.num_rows

    def _without_known(self, table: pa.Table) -> pa.Table:
        """Drops events that the log or an earlier row has; those whose contents differ go to the quarantine."""
        known = self._known(table)
        stored = known.num_rows
        both = pa.concat_tables([known.append_column(ROW, pa.nulls(stored, pa.int64())), table])
        codes = both["event_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        _, first, code = np.unique(codes, return_index=True, return_inverse=True)
        first = first[code]
        again = stored + np.flatnonzero(first[stored:] < np.arange(stored, len(first)))
        if not len(again):
            return table
        received, earlier = both.take(pa.array(again)), both.take(pa.array(first[again]))
        same = np.all([_equal(received[name], earlier[name]) for name in _CONTENT], axis=0)
        self._duplicates += int(same.sum())
        differing = pa.array(~same)
        for row, other in zip(received.filter(differing).to_pylist(), earlier.filter(differing).to_pylist(),
                              strict=True):
            kept = {name: other[name] for name in _CONTENT if row[name] != other[name]}
            self._rejected.append((self._file, row.pop(ROW), CONFLICT, to_json({**row, "kept": kept})))
        new = np.ones(table.num_rows, bool)
        new[again - stored] = False
        return table.filter(pa.array(new))

    def _known(self, table: pa.Table) -> pa.Table:
        """Returns the events of the log, and of this file's blocks so far, that have one of the ids."""
        dates = None
        if self._derived:
            dates = {date_of(day) for day in np.unique(day_of(table["time"].to_numpy()))}
        paths = [part["path"] for date in self._ledger.dates if dates is None or date in dates
                 for part in self._ledger.parts(date=date)]
        paths += [part["path"] for part in self._parts if dates is None or part["date"] in dates]
        return stored_events([filesystem.join(self._path, path) for path in paths], table["event_id"].combine_chunks())

    def _check_share(self) -> None:
        bad = len(self._rejected)
        if not bad or bad <= self._max_bad_share * self._read:
            return
        _, row, reason, content = first_rejected(self._rejected)
        reasons = ", ".join(f"{name} {n:,}" for name, n in Counter(r[2] for r in self._rejected).most_common())
        content = content if len(content) <= 200 else content[:200] + "..."
        raise TooManyBadRowsError(
            f"{bad:,} of {self._read:,} rows of '{self._file}' are bad ({bad / self._read:.1%}) and "
            f"{self._max_bad_share:.1%} are allowed, so none was taken. Reasons: {reasons}. First: data row {row}, "
            f"{reason}: {content}. Mend the rows, name the right columns or raise --max-bad-share.",
            rejected=rejected_frame(self._rejected), counts={"read": self._read, "rejected": bad})


def _equal(first: pa.ChunkedArray, second: pa.ChunkedArray) -> np.ndarray:
    """Whether values are equal, or both missing, `[n]` bool."""
    both = pc.and_(pc.is_null(first), pc.is_null(second))
    return pc.or_(both, pc.fill_null(pc.equal(first, second), False)).to_numpy()
