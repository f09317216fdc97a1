"""The event log: what was served and what came of it."""

import contextlib
import datetime
import fcntl
import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta import config
from tfmeta.config import require
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.schema import Schema
from tfmeta.errors import ConfigError, DataError
from tfmeta.io import filesystem
from trainer.feedback.entity_table import SIDES, EntityTable, schema_of
from trainer.feedback.event_cleaner import EventCleaner
from trainer.feedback.event_schema import EVENT_SCHEMA, LAYOUT_VERSION, natural_spec, resolve_columns
from trainer.feedback.event_source import EventSource
from trainer.feedback.ingest_file import BLOCK_ROWS, IngestFile, remove_part
from trainer.feedback.ingest_report import IngestReport
from trainer.feedback.ledger import Ledger
from trainer.feedback.stored_events import damaged

SCHEMA_FILE = "schema.json"
MAX_BAD_SHARE = 0.05
_OUTCOMES = ["user_id", "item_id", "label", "time"]


class EventLog:
    """Requests that were served and outcomes that were observed, in Parquet, partitioned by day.

        schema.json                     version of the layout, columns, feature specification of the model
        date=YYYY-MM-DD/part-<hash>.parquet     `EVENT_SCHEMA`, sorted by time; the day is UTC
        users.parquet, items.parquet    an id and its features; the row given last counts
        ledger/<ingest id>.json         one per file taken in: its hash, counts, and the parts that it gave
        quarantine/<ingest id>.parquet  rows left out: `file, row, reason, content`

    A file is taken in whole or not at all: its ledger entry, written last, is what makes its parts part of the log. So
    readers see no half of a file, and after a kill the same command goes on where it was. An event is stored once,
    whatever number of files have its `event_id`. On a local disk one process writes at a time, which a lock ensures; on
    object stores that is the caller's affair.

    Use `create` or `open`.
    """

    def __init__(self, path: str, *, feature_spec: FeatureSpec):
        self.path = path
        self.feature_spec = feature_spec
        self._ledger = Ledger(path)

    @classmethod
    def create(cls, path: str, feature_spec: FeatureSpec) -> "EventLog":
        """Starts a log, or opens one whose columns are the same.

        Args:
          path: the directory, absent or empty or a log, on any file system.
          feature_spec: of the model; vocabularies and statistics in it are of no account to the log.

        Raises:
          DataError: if something else is there.
          ConfigError: if the log there has other features or another label.
        """
        path, spec = str(path).rstrip("/"), natural_spec(feature_spec)
        schema_of(spec)
        if filesystem.exists(filesystem.join(path, SCHEMA_FILE)):
            log = cls.open(path)
            was, now = _essence(log.feature_spec), _essence(spec)
            for key in was:
                if was[key] != now[key]:
                    raise ConfigError(f"Event log '{path}' requires {key} {was[key]}, received {now[key]}. Start "
                                      "another log for a model with other features or another label.")
            return log
        if filesystem.exists(path) and (not filesystem.is_dir(path) or filesystem.listdir(path)):
            raise DataError(f"'{path}' exists already and is no event log: it has no {SCHEMA_FILE}. Choose another "
                            "directory.")
        content = {"layout": LAYOUT_VERSION, "columns": {f.name: str(f.type) for f in EVENT_SCHEMA},
                   "feature_spec": config.to_dict(spec)}
        filesystem.makedirs(path)
        filesystem.write_text(filesystem.join(path, SCHEMA_FILE), json.dumps(content, ensure_ascii=False, indent=1))
        return cls(path, feature_spec=spec)

    @classmethod
    def open(cls, path: str) -> "EventLog":
        """Opens a log.

        Raises:
          DataError: if there is none, or it was written by another version.
        """
        path = str(path).rstrip("/")
        file = filesystem.join(path, SCHEMA_FILE)
        if not filesystem.exists(file):
            raise DataError(f"'{path}' is not an event log: it has no {SCHEMA_FILE}. Start one with "
                            "'tfmeta ingest --log LOG --spec RUN'.")
        try:
            content = json.loads(filesystem.read_text(file))
            layout = content["layout"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"'{file}' requires the JSON of an event log: {error!r}.") from None
        if layout != LAYOUT_VERSION:
            raise DataError(f"Event log '{path}' requires layout {LAYOUT_VERSION}, received {layout!r}. Read it with "
                            "the version that wrote it.")
        return cls(path, feature_spec=config.parse(FeatureSpec, content["feature_spec"], where="feature_spec"))

    @functools.cached_property
    def schema(self) -> Schema:
        """The declaration that `RawData.from_frames` reads `outcomes`, `users` and `items` by."""
        return schema_of(self.feature_spec)

    def ingest(self, sources: Any, *, kind: str, columns: Mapping[str, str] | None = None, source: str = "",
               max_bad_share: float = MAX_BAD_SHARE, block_rows: int = BLOCK_ROWS,
               progress: bool = False) -> IngestReport:
        """Takes requests or outcomes in.

        All files are looked at before any is read, so one with a wrong column is found before anything changes. A file
        whose bytes the log has taken in already, by the same settings, is not read again. Others are taken in one by
        one, whole or not at all; one that turns out unreadable is named in the report and the others are taken.

        Args:
          sources: a path, a data frame, an Arrow table, or a list of them. A row is an event; where the item column
            holds lists (and the scores with it), a row is a request with all its candidates.
          kind: `request` or `outcome`.
          columns: event column -> the files' name for it, where that is not the usual one.
          source: name of the stream; the same event from two streams is two events, unless it has its own id.
          max_bad_share: highest share of bad rows of a file.
          block_rows: events held at once.
          progress: show a bar per file.

        Raises:
          ConfigError: if an argument cannot be used or another process writes to the log.
          DataError: if a file is absent, lacks a column or has too many bad rows.
        """
        require(0 <= max_bad_share <= 1, "max_bad_share", "a share from 0 to 1", max_bad_share)
        require(block_rows >= 1, "block_rows", "at least 1", block_rows)
        report, plan = IngestReport(), []
        for entry in _sources(sources):
            try:
                names = entry.columns()
            except DataError as error:
                if not _there(entry):
                    raise
                report += IngestReport(files=1, unreadable={entry.name: str(error)})
                continue
            plan.append((entry, resolve_columns(kind, names, file=entry.name, spec=self.feature_spec, given=columns)))
        with self._lock():
            self._ledger.refresh()
            self._sweep()
            for entry, found in plan:
                report += self._ingest_file(entry, kind=kind, columns=found, source=source, block_rows=block_rows,
                                            max_bad_share=max_bad_share, progress=progress)
        return report

    def update_table(self, side: str, sources: Any, *, max_bad_share: float = MAX_BAD_SHARE,
                     progress: bool = False) -> IngestReport:
        """Takes rows of users (`side` user) or items in; of an id the row given last counts.

        Raises:
          ConfigError: if `side` is neither, or another process writes to the log.
          DataError: if a file cannot be read, lacks a column or has too many bad rows; the files before it are in.
        """
        require(side in SIDES, "side", "user or item", side)
        report = IngestReport()
        with self._lock():
            for entry in _sources(sources):
                report += EntityTable(self.path, side, spec=self.feature_spec).update(
                    entry, max_bad_share=max_bad_share, progress=progress)
        return report

    def outcomes(self, start: datetime.date | None = None, end: datetime.date | None = None) -> pd.DataFrame:
        """Returns `user_id, item_id` (str), `label` float64, `time` int64 unix seconds of the days from `start` to
        `end`, both included, sorted by time and event id; all days without them.
        """
        return self._events("outcome", start, end, _OUTCOMES)

    def requests(self, start: datetime.date | None = None, end: datetime.date | None = None) -> pd.DataFrame:
        """Returns all columns (`EVENT_SCHEMA`) of the requests, as `outcomes` does; missing values are NA."""
        return self._events("request", start, end, EVENT_SCHEMA.names)

    def dates(self, kind: str | None = None) -> list[datetime.date]:
        """Returns the days that have events (of a kind), in order."""
        ledger = self._ledger.refresh()
        return [datetime.date.fromisoformat(d) for d in ledger.dates if ledger.parts(date=d, kind=kind)]

    def users(self) -> pd.DataFrame:
        """Returns `user_id` (str) and a column per feature, as `RawData` has them, sorted by id."""
        return EntityTable(self.path, "user", spec=self.feature_spec).read()

    def items(self) -> pd.DataFrame:
        """Returns `item_id` (str), a column per feature and the title, sorted by id."""
        return EntityTable(self.path, "item", spec=self.feature_spec).read()

    def _events(self, kind: str, start, end, names: list[str]) -> pd.DataFrame:
        if start is not None and end is not None and end < start:
            raise ConfigError(f"'end' requires a day not before start {start}, received {end}.")
        tables = [EVENT_SCHEMA.empty_table()]
        for date in self.dates(kind):
            if (start is None or date >= start) and (end is None or date <= end):
                for part in self._ledger.parts(date=date.isoformat(), kind=kind):
                    path = filesystem.join(self.path, part["path"])
                    try:
                        tables.append(pq.read_table(io.BytesIO(filesystem.read_bytes(path)),
                                                    schema=EVENT_SCHEMA))
                    except (pa.ArrowException, OSError, ValueError) as error:
                        raise damaged(path, error) from None
        table = pa.concat_tables(tables).sort_by([("time", "ascending"), ("event_id", "ascending")])
        frame = table.select(names).to_pandas()
        # Numbers stay numbers where some are missing.
        return frame.astype({n: t for n, t in (("model_version", "Int64"), ("adapted", "boolean")) if n in names})

    def _ingest_file(self, entry: EventSource, *, kind: str, columns: dict[str, str], source: str, block_rows: int,
                     max_bad_share: float, progress: bool) -> IngestReport:
        settings = {"kind": kind, "sha256": entry.digest(), "columns": columns, "source": source}
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        known = self._ledger.get(key)
        if known is not None:
            bad = sum(known["quarantined"].values())
            return IngestReport(read=known["read"], duplicates=known["read"] - bad, files=1, known_files=1,
                                quarantined=known["quarantined"], first_bad=_first(known))
        job = IngestFile(
            self.path, ledger=self._ledger, cleaner=EventCleaner(kind, self.feature_spec, columns=columns,
                                                                 source=source),
            derived_ids="event_id" not in columns, max_bad_share=max_bad_share, block_rows=block_rows)
        try:
            done = job.run(entry.chunks(columns.values(), progress=progress), key=key,
                           entry={"file": entry.name, **settings})
        except DataError as error:
            job.discard()
            if getattr(error, "rejected", None) is not None:
                raise
            return IngestReport(files=1, unreadable={entry.name: str(error)})
        return IngestReport(
            read=done["read"], taken=done["taken"], duplicates=done["duplicates"], quarantined=done["quarantined"],
            partitions=tuple(sorted({p["date"] for p in done["parts"]})), files=1, first_bad=_first(done))

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        if filesystem.is_remote(self.path):
            yield
            return
        with open(filesystem.join(self.path, ".lock"), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"Another process writes to event log '{self.path}'. Wait until it has "
                                  "ended.") from None
            yield  # The lock goes with the file, and with the process if that is killed.

    def _sweep(self) -> None:
        """Removes what ingests that were cut off have left; only where the lock keeps others from writing."""
        if filesystem.is_remote(self.path):
            return
        named = self._ledger.named()
        for folder in filesystem.listdir(self.path):
            path = filesystem.join(self.path, folder)
            if not filesystem.is_dir(path):
                continue
            for name in filesystem.listdir(path):
                unnamed = folder.startswith("date=") and name.startswith("part-") and f"{folder}/{name}" not in named
                if unnamed or name.endswith(".tmp"):
                    remove_part(self.path, f"{folder}/{name}")


def _sources(sources: Any) -> list[EventSource]:
    many = isinstance(sources, Iterable) and not isinstance(sources, str | pd.DataFrame | pa.Table)
    return [EventSource(s) for s in (sources if many else [sources])]


def _there(source: EventSource) -> bool:
    return source.name == "table" or filesystem.exists(source.name)


def _first(entry: dict[str, Any]) -> tuple[str, int, str, str] | None:
    return None if entry["first_bad"] is None else tuple(entry["first_bad"])


def _essence(spec: FeatureSpec) -> dict[str, Any]:
    """What of a specification the log's columns hang on."""
    label = spec.label
    return {"the label": (label.unit, label.minimum, label.maximum), "the title": spec.title,
            "ids of users and items": (spec.user_id.name, spec.item_id.name),
            **{f"{side} features": {f.name: (f.kind, f.dtype, f.length) for f in getattr(spec, f"{side}_features")}
               for side in SIDES}}
