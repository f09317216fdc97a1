"""A block of rows on its way from a reader to the cleaner."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa

from tfmeta.errors import DataError

FRAME_CHUNK_ROWS = 1 << 18


@dataclasses.dataclass(frozen=True)
class Chunk:
    """`n` rows of one file in columns, unchecked.

    Attributes:
      file: name of the file for messages, relative to the source.
      rows: `[n]` int64, 0-based data row of each row in the file.
      columns: name -> array `[n]` of any Arrow type.
      content: position in the chunk -> the row as JSON; called for bad rows only.
      malformed: rows that could not be split into columns: (data row, reason, content).
    """

    file: str
    rows: np.ndarray
    columns: dict[str, pa.Array]
    content: Callable[[int], str]
    malformed: tuple[tuple[int, str, str], ...] = ()

    @property
    def read(self) -> int:
        """Rows read, malformed ones included."""
        return len(self.rows) + len(self.malformed)

    @classmethod
    def concat(cls, chunks: "list[Chunk]") -> "Chunk":
        """Joins the chunks of one small file."""
        starts = np.cumsum([0] + [len(chunk.rows) for chunk in chunks])

        def content(position: int) -> str:
            i = int(np.searchsorted(starts, position, side="right")) - 1
            return chunks[i].content(position - int(starts[i]))

        return cls(chunks[0].file, np.concatenate([c.rows for c in chunks]),
                   {name: pa.concat_arrays([c.columns[name] for c in chunks]) for name in chunks[0].columns}, content,
                   tuple(m for c in chunks for m in c.malformed))

    @classmethod
    def from_table(cls, table: pa.Table | pa.RecordBatch, *, file: str, first_row: int) -> "Chunk":
        """Makes a chunk of consecutive rows of a table."""
        columns = {}
        for name, column in zip(table.schema.names, table.columns, strict=True):
            columns[name] = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

        def content(position: int) -> str:
            return to_json({name: column[position].as_py() for name, column in columns.items()})

        return cls(file, np.arange(first_row, first_row + table.num_rows, dtype=np.int64), columns, content)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, file: str,
                   rows: int = FRAME_CHUNK_ROWS) -> "list[Chunk]":
        """Cuts a data frame into chunks of at most `rows` rows; at least one chunk, so that columns are seen.

        Raises:
          DataError: if two columns have one name.
        """
        names = [str(name) for name in frame.columns]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise DataError(f"'{file}' requires columns with different names, received {repeated} repeatedly.")
        chunks = []
        for start in range(0, max(1, len(frame)), rows):
            part = frame.iloc[start:start + rows]
            table = pa.table({name: _array(part.iloc[:, i]) for i, name in enumerate(names)})
            chunks.append(cls.from_table(table, file=file, first_row=start))
        return chunks


def to_json(row) -> str:
    """Returns a row as JSON; values that JSON does not have become strings."""
    return json.dumps(row, ensure_ascii=False, default=str)


def string_array(values) -> pa.Array:
    """Returns strings as an Arrow array; lone surrogates, which UTF-8 does not have, become `?`."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([v if v is None else v.encode("utf-8", "replace").decode() for v in values], pa.string())


def _array(column: pd.Series) -> pa.Array:
    try:
        array = pa.array(column, from_pandas=True)
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, UnicodeEncodeError, OverflowError):
        # Mixed types: strings keep every value readable, and the conversion decides which are good.
        missing = column.map(lambda v: v is None or (np.isscalar(v) and pd.isna(v))).to_numpy(bool)
        return string_array([None if m else str(v) for v, m in zip(column, missing, strict=True)])
