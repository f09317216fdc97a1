"""The second stage: every shard's users are answered and written as one part."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.utils import shared

from tfmeta.batch.item_table import ItemTable
from tfmeta.batch.job_settings import JobSettings
from tfmeta.batch.latest_rows import LatestRows
from tfmeta.batch.output_schema import output_schema
from tfmeta.batch.part_file import PartFile
from tfmeta.batch.row_cleaner import REJECTED, RowCleaner
from tfmeta.batch.shard_scorer import ShardScorer
from tfmeta.batch.shard_users import ShardUsers, last_rows
from tfmeta.batch.stage import staged_tables
from tfmeta.batch.staged_set import staged_fingerprint
from tfmeta.batch.work_files import publish, read_record, write_record
from tfmeta.data.cleaning.chunk import to_json

# Rows answered and written at once.
BLOCK_ROWS = 1 << 19


class ScoreShard(beam.DoFn):
    """Answers the users of a shard, and yields the part's record.

    The part is written as a sibling and renamed, then the record is written. A re-run leaves a part alone whose
    record names the same staged input; any other is made again and replaces it.
    """

    def __init__(self, settings: JobSettings, handle: shared.Shared):
        self._settings, self._handle = settings, handle
        self._model = None

    def process(self, shard: int, staged: Iterable[dict]) -> Iterator[dict]:
        settings = self._settings
        staged = sorted((r for r in staged if "error" not in r), key=lambda r: r["key"])
        fingerprint = staged_fingerprint(staged)
        done = read_record(settings.record(shard))
        if done is not None and done["staged"] == fingerprint:
            yield done
            return
        begin = time.monotonic()
        if self._model is None:
            # Once a process, however many threads there are.
            self._model = self._handle.acquire(lambda: _Model(settings))
        rejected, quarantine = Counter(), None
        with publish(settings.part(shard)) as local, PartFile.open(
                local, output_schema(settings), kind=settings.config.output_format) as part:
            repeated = self._answer(shard, staged, part)
            rows = part.rows
        if repeated is not None and repeated.num_rows:
            quarantine = f"{settings.record(shard)}.rejected.parquet"
            with publish(quarantine) as local:
                pq.write_table(repeated, local)
            rejected["duplicate_user"] = repeated.num_rows
        record = {"shard": shard, "staged": fingerprint, "path": settings.part(shard), "rows": rows,
                  "rejected": dict(rejected), "quarantine": quarantine, "seconds": time.monotonic() - begin}
        write_record(settings.record(shard), record)
        yield record

    def _answer(self, shard: int, staged: list[dict], part: PartFile) -> pa.Table | None:
        """Writes all rows; returns the users' rows that a later one of the same user replaces."""
        settings = self._settings
        interactions = _latest(settings, self._tables("interactions", shard, staged))
        rows = repeated = None
        if settings.config.users:
            found = pa.concat_tables([RowCleaner.schema("users", settings.spec).empty_table(),
                                      *self._tables("users", shard, staged)])
            rows, earlier = last_rows(found)
            repeated = _as_rejected(earlier)
        users = ShardUsers(settings.spec, interactions=interactions, rows=rows, items=self._model.items)
        scorer = ShardScorer(settings, self._model.servable, users=users, items=self._model.items)
        if settings.config.mode == "score":
            for block in _blocks(self._tables("candidates", shard, staged), BLOCK_ROWS):
                part.write(scorer.score(block))
            return repeated
        answer = scorer.recommend if settings.config.mode == "recommend" else scorer.embed
        asked = users.active if rows is None else rows["user"].combine_chunks()
        # A row is wide here, so fewer at once.
        step = BLOCK_ROWS >> 5
        for begin in range(0, len(asked), step):
            part.write(answer(asked.slice(begin, step)))
        return repeated

    def _tables(self, kind: str, shard: int, staged: list[dict]) -> Iterator[pa.Table]:
        for record in staged:
            if record["kind"] == kind:
                yield from staged_tables(record, shard, self._settings.shards)


class _Model:
    """What a worker loads once."""

    def __init__(self, settings: JobSettings):
        from tfmeta.serving.servable import Servable

        self.items = ItemTable(settings.model.description, settings.config.items)
        self.servable = Servable("batch", 1, settings.model.path)


def _latest(settings: JobSettings, tables: Iterable[pa.Table]) -> pa.Table:
    combine = LatestRows(settings.support_bound, RowCleaner.schema("interactions", settings.spec))
    accumulator = combine.create_accumulator()
    for table in tables:
        accumulator = combine.add_input(accumulator, table)
    return combine.extract_output(accumulator)


def _blocks(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Joins tables to blocks of about `rows` rows; the last one may be smaller."""
    pending, count = [], 0
    for table in tables:
        pending.append(table)
        count += table.num_rows
        if count >= rows:
            yield pa.concat_tables(pending)
            pending, count = [], 0
    if pending:
        yield pa.concat_tables(pending)


def _as_rejected(rows: pa.Table) -> pa.Table:
    contents = [to_json({k.removeprefix("feature:"): v for k, v in row.items() if k != "position"})
                for row in rows.to_pylist()]
    positions = rows["position"].to_pylist()
    return pa.table([[f"users file {p >> 40}" for p in positions], [p & ((1 << 40) - 1) for p in positions],
                     ["duplicate_user"] * len(positions), contents], schema=REJECTED)
