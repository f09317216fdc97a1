"""Parquet files as a schema declares them."""

import itertools
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from tfmeta.data.cleaning.assemble import assemble
from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.columns import check_columns, required_columns
from tfmeta.data.raw_data import RawData
from tfmeta.data.readers.files import find_all, open_binary
from tfmeta.data.schema import Schema
from tfmeta.errors import DataError

CHUNK_ROWS = 1 << 17


def read(source: str, *, schema: Schema | None = None, progress: bool = False,
         chunk_rows: int = CHUNK_ROWS) -> RawData:
    """Reads Parquet, only the columns that the schema names, a batch of rows at a time.

    Args:
      source: a directory that the schema's paths are relative to, or one interactions file.
      schema: required.
      progress: show a bar per file.
      chunk_rows: rows held at once.

    Raises:
      ConfigError: if the schema is absent or names no interactions.
      DataError: if files or columns are missing, or too many rows are bad.
    """
    files = find_all(source, schema, reader="parquet")

    def chunks(kind):
        if files[kind] is None:
            return None
        wanted = required_columns(schema, kind, users=files["users"] is not None, items=files["items"] is not None)
        return itertools.chain.from_iterable(
            parquet_chunks(path, name=name, wanted=wanted, chunk_rows=chunk_rows, progress=progress)
            for path, name in files[kind])

    return assemble(schema, interactions=chunks("interactions"), users=chunks("users"), items=chunks("items"))


def parquet_chunks(path: str, *, name: str, wanted: list[str], chunk_rows: int = CHUNK_ROWS,
                   progress: bool = False) -> Iterator[Chunk]:
    """Yields the wanted columns of one file; at least one chunk, so that columns are seen.

    Raises:
      DataError: if the file is no Parquet file, is damaged or lacks a column.
    """
    try:
        with open_binary(path) as (stream, _), pq.ParquetFile(stream) as file:
            check_columns(name, file.schema_arrow.names, wanted)
            row = 0
            with tqdm(total=file.metadata.num_rows, unit="rows", unit_scale=True, desc=name,
                      disable=not progress) as bar:
                for batch in file.iter_batches(batch_size=chunk_rows, columns=wanted):
                    batch.validate(full=True)  # text that is no UTF-8 is found here, not somewhere inside cleaning
                    yield Chunk.from_table(batch, file=name, first_row=row)
                    row += batch.num_rows
                    bar.update(batch.num_rows)
            if row != file.metadata.num_rows:
                raise DataError(f"File '{name}' is damaged: its footer requires {file.metadata.num_rows} rows, "
                                f"received {row}. Write it again.")
            if not row:
                yield Chunk.from_table(file.schema_arrow.empty_table().select(wanted), file=name, first_row=0)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise DataError(f"File '{name}' cannot be read as Parquet: {str(error).splitlines()[0]}") from None
