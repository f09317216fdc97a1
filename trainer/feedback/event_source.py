"""Where events come from: a file or a table in memory."""

import hashlib
from collections.abc import Iterable, Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.prepared_data import sha256
from tfmeta.data.readers.delimited_file import DelimitedFile
from tfmeta.data.readers.files import open_binary
from tfmeta.data.readers.parquet_reader import parquet_chunks
from tfmeta.errors import ConfigError, DataError
from tfmeta.io import filesystem
from trainer.feedback.json_lines import json_chunks, json_columns

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "json", ".ndjson": "json"}
_TABLE_ROWS = 1 << 18


class EventSource:
    """Rows of one file (CSV, Parquet, JSON lines; told by its name) or of one table.

    Args:
      source: a path, a data frame or an Arrow table.
      name: what a table is called in messages and in the ledger.

    Raises:
      ConfigError: if the name of a file does not tell its format.
    """

    def __init__(self, source: str | pd.DataFrame | pa.Table, *, name: str = "table"):
        self._table = source if isinstance(source, pa.Table | pd.DataFrame) else None
        self.name = name if self._table is not None else str(source)
        self._format = "table" if self._table is not None else _format(self.name)

    def digest(self) -> str:
        """Returns a SHA-256 over the file, or over the table's Arrow stream."""
        if self._table is None:
            with filesystem.open_file(self.name, "rb") as file:
                return sha256(file)
        digest = hashlib.sha256()
        for chunk in self.chunks(None):
            batch = pa.record_batch(list(chunk.columns.values()), names=list(chunk.columns))
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            digest.update(sink.getvalue())
        return digest.hexdigest()

    def columns(self) -> list[str]:
        """Returns the names of the columns; of JSON lines the keys of the first objects.

        Raises:
          DataError: if the file cannot be read.
        """
        if self._format == "table":
            names = self._table.column_names if isinstance(self._table, pa.Table) else self._table.columns
            return [str(name) for name in names]
        if self._format == "parquet":
            try:
                with open_binary(self.name) as (stream, _), pq.ParquetFile(stream) as file:
                    return file.schema_arrow.names
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"File '{self.name}' cannot be read as Parquet: {_one_line(error)}") from None
        if self._format == "csv":
            return list(next(self._delimited(None, 1 << 12)).columns)
        return json_columns(self.name)

    def chunks(self, wanted: Iterable[str] | None, *, progress: bool = False) -> Iterator[Chunk]:
        """Yields blocks of rows with the wanted columns (None: all); at least one block.

        Raises:
          DataError: if the file cannot be read or lacks a column.
        """
        wanted = self.columns() if wanted is None else list(dict.fromkeys(wanted))
        if self._format == "parquet":
            yield from parquet_chunks(self.name, name=self.name, wanted=wanted, progress=progress)
        elif self._format == "csv":
            yield from self._delimited(wanted, None, progress=progress)
        elif self._format == "json":
            yield from json_chunks(self.name, wanted=wanted, progress=progress)
        elif isinstance(self._table, pd.DataFrame):
            yield from Chunk.from_frame(self._table[wanted], file=self.name)
        else:
            table = self._table.select(wanted)
            for start in range(0, max(1, table.num_rows), _TABLE_ROWS):
                yield Chunk.from_table(table.slice(start, _TABLE_ROWS), file=self.name, first_row=start)

    def _delimited(self, wanted: list[str] | None, characters: int | None, *, progress: bool = False):
        size = {} if characters is None else {"chunk_characters": characters}
        return DelimitedFile(self.name, name=self.name, options=CsvOptions(), wanted=wanted,
                             **size).chunks(progress=progress)


def _format(path: str) -> str:
    name = path.lower()
    for ending, kind in _FORMATS.items():
        if name.endswith(ending) or (kind != "parquet" and name.endswith(f"{ending}.gz")):
            return kind
    raise ConfigError(f"File '{path}' requires a name that ends in {', '.join(_FORMATS)} (text also with .gz).")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
