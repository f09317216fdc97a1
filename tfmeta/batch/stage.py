"""The first stage: every split is cleaned and shared out among the shards."""

import dataclasses
import itertools
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.batch import record_file
from tfmeta.batch.input_plan import columns_of, one_line
from tfmeta.batch.input_split import InputSplit
from tfmeta.batch.job_settings import JobSettings
from tfmeta.batch.latest_rows import keep_latest
from tfmeta.batch.row_cleaner import REJECTED, RowCleaner
from tfmeta.batch.user_hash import hash_of, may_exceed
from tfmeta.batch.work_files import publish, read_record, write_record
from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.readers.delimited_file import DelimitedFile
from tfmeta.data.readers.files import open_binary
from tfmeta.errors import DataError
from tfmeta.io import filesystem

CHUNK_ROWS = 1 << 18


class StageSplit(beam.DoFn):
    """Cleans an `InputSplit` into one staged file, and yields its record.

    A staged file is an Arrow file with `shards` record batches for each chunk read, so a shard finds its rows without
    reading the others'. The record `<key>.json` is written last: where it is, a re-run has nothing to do. An
    unreadable split has a record with `error` and nothing else, which is not kept.
    """

    def __init__(self, settings: JobSettings):
        self._settings = settings

    def process(self, split: InputSplit) -> Iterator[dict]:
        done = read_record(filesystem.join(self._settings.staged, f"{split.key}.json"))
        if done is not None:
            yield done
            return
        try:
            yield stage(self._settings, split.kind, split.key, read_split(split), columns=dict(split.columns),
                        file=split.file)
        except (pa.ArrowException, OSError, EOFError, DataError) as error:
            yield {"key": split.key, "kind": split.kind, "file": split.path, "error": one_line(error)}


class StageRows(beam.DoFn):
    """Cleans a batch of rows (mappings of column to value) as `StageSplit` does a split.

    A table has no order and no files that stay the same: its batches are staged anew in every run, and rows with equal
    times come in any order.
    """

    def __init__(self, settings: JobSettings, *, kind: str, name: str):
        self._settings, self._kind, self._name = settings, kind, name

    def process(self, rows: list[dict]) -> Iterator[dict]:
        import pandas as pd

        # Values of any type in a column are the cleaner's affair.
        chunks = Chunk.from_frame(pd.DataFrame(rows), file=self._name)
        key = f"{self._kind}-{uuid.uuid4().hex}"
        try:
            columns = columns_of(self._kind, list(chunks[0].columns), path=self._name, config=self._settings.config,
                                 spec=self._settings.spec)
            yield stage(self._settings, self._kind, key, chunks, columns=columns, file=0)
        except DataError as error:
            yield {"key": key, "kind": self._kind, "file": self._name, "error": one_line(error)}


def stage(settings: JobSettings, kind: str, key: str, chunks: Iterable[Chunk], *, columns: dict[str, str],
          file: int) -> dict:
    """Writes the staged file of chunks, their quarantined rows and the record; returns the record."""
    cleaner = RowCleaner(kind, settings.spec, columns=columns, file=file)
    schema = RowCleaner.schema(kind, settings.spec)
    path = filesystem.join(settings.staged, f"{key}.arrow")
    read, kept, rejected = 0, 0, Counter()
    quarantine = _Quarantine(filesystem.join(settings.staged, f"{key}.rejected.parquet"))
    with quarantine, publish(path) as local, pa.OSFile(local, "wb") as sink, pa.ipc.new_file(
            sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        for chunk in chunks:
            table, bad, replaced = cleaner.clean(chunk)
            read, kept = read + chunk.read, kept + table.num_rows
            rejected.update(bad["reason"].to_pylist())
            rejected.update(replaced)
            quarantine.add(bad)
            hashed = hash_of(table["user"])
            if kind == "interactions" and may_exceed(hashed, settings.support_bound):
                # What a user has beyond the bound in this chunk alone is beyond it in all of them.
                table = keep_latest(table, settings.support_bound)
                hashed = hash_of(table["user"])
            _write_by_shard(writer, table, (hashed % np.uint64(settings.shards)).astype(np.int64), settings.shards)
    record = dataclasses.asdict(StageRecord(key, kind, path, read, kept, dict(rejected),
                                            quarantine.path if quarantine.rows else None))
    write_record(filesystem.join(settings.staged, f"{key}.json"), record)
    return record


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What is known of a staged split.

    Attributes:
      key, kind: as of the split.
      path: the staged file.
      read, kept: rows.
      rejected: reason -> rows; `bad_feature:<name>` counts values taken as missing, whose rows are kept.
      quarantine: file with the rows left out, or None.
    """

    key: str
    kind: str
    path: str
    read: int
    kept: int
    rejected: dict[str, int]
    quarantine: str | None


def read_split(split: InputSplit) -> Iterator[Chunk]:
    """Yields the rows of a split, only the columns needed.

    Raises:
      DataError, pa.ArrowException, OSError: if the file cannot be read.
    """
    wanted = list(dict.fromkeys(column for _, column in split.columns))
    if split.format == "csv":
        yield from DelimitedFile(split.path, name=split.path, options=CsvOptions(), wanted=wanted).chunks()
        return
    if split.format == "tfrecord":
        for chunk in record_file.record_chunks(split.path, wanted=wanted, rows=CHUNK_ROWS >> 2):
            # A list that no record has: a column of missing values.
            absent = {n: pa.nulls(len(chunk.rows), pa.string()) for n in wanted if n not in chunk.columns}
            yield dataclasses.replace(chunk, columns={**chunk.columns, **absent}) if absent else chunk
        return
    row = split.first_row
    with open_binary(split.path) as (stream, _), pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=wanted,
                                       row_groups=list(range(*split.groups))):
            batch.validate(full=True)
            yield Chunk.from_table(batch, file=split.path, first_row=row)
            row += batch.num_rows
    if row != split.first_row + split.rows:
        raise DataError(f"File '{split.path}' is damaged: its footer requires {split.rows} rows, received "
                        f"{row - split.first_row}.")


def staged_tables(record: dict, shard: int, shards: int) -> Iterator[pa.Table]:
    """Yields the rows of one shard of a staged file, chunk by chunk."""
    with open_binary(record["path"]) as (stream, _), pa.ipc.open_file(stream) as file:
        for index in range(shard, file.num_record_batches, shards):
            batch = file.get_batch(index)
            if batch.num_rows:
                yield pa.Table.from_batches([batch])


class _Quarantine:
    """A Parquet file of bad rows, made when there is one."""

    def __init__(self, path: str):
        self.path, self.rows, self._pending = path, 0, []

    def add(self, bad: pa.Table) -> None:
        if bad.num_rows:
            self._pending.append(bad)
            self.rows += bad.num_rows

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None and self.rows:
            with publish(self.path) as local:
                pq.write_table(pa.concat_tables(self._pending).cast(REJECTED), local)


def _write_by_shard(writer, table: pa.Table, shard: np.ndarray, shards: int) -> None:
    order = shard.argsort(kind="stable")
    table = table.combine_chunks().take(pa.array(order))
    ends = shard[order].searchsorted(range(shards + 1))
    for begin, end in itertools.pairwise(ends):
        part = table.slice(begin, end - begin).combine_chunks()
        batches = part.to_batches()
        # Exactly one batch a shard, so that its number tells whose it is.
        writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema))
