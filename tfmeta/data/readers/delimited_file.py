"""Delimited text in blocks, where no text whatever is an error."""

import csv
import gzip
import io
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from tqdm import tqdm

from tfmeta.data.cleaning.chunk import Chunk, string_array, to_json
from tfmeta.data.cleaning.columns import check_columns
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.readers.files import open_binary
from tfmeta.errors import DataError
from tfmeta.io import filesystem

CHUNK_CHARACTERS = 4 << 20
# A quote that nothing closes would swallow the file; a record beyond this is malformed.
_RECORD_CHARACTERS = 1 << 17
_BLANK = frozenset(("\n", "\r", "\r\n"))
_UNIT = "\x1f"  # ASCII's unit separator, for separators that Arrow does not know


class DelimitedFile:
    """One delimited text file as a stream of `Chunk`s.

    Rows with another number of columns than the header, and rows whose quoting is broken, are passed on as malformed.
    A quoted value may hold line ends; where a quote is never closed only the line that opens it is malformed. Blank
    lines are no rows. What a row becomes never depends on the size of the chunks.

    Args:
      path: the file; `.gz` is uncompressed on the way.
      name: its name for messages and the quarantine.
      options: separator, quote, encoding, null values.
      columns: names of the columns; None where the first line has them.
      wanted: columns to pass on; None passes all on.
      rename: applied to every name of the header line.
      chunk_characters: how much text is held at once.
    """

    def __init__(self, path: str, *, name: str, options: CsvOptions, columns: tuple[str, ...] | None = None,
                 wanted: Iterable[str] | None = None, rename: Callable[[str], str] = str.strip,
                 chunk_characters: int = CHUNK_CHARACTERS):
        self.path = path
        self.name = name
        self._options = options
        self._columns = columns
        self._wanted = None if wanted is None else tuple(wanted)
        self._rename = rename
        self._chunk_characters = chunk_characters
        self._quote = options.quote if options.quoting else None
        self._queue: deque[str] = deque()

    def chunks(self, *, progress: bool = False) -> Iterator[Chunk]:
        """Yields the rows in order; at least one chunk, so that columns are seen.

        Raises:
          DataError: if the file cannot be read, is empty, lacks a wanted column or has a column name twice.
        """
        try:
            with open_binary(self.path) as (stream, raw):
                size = None if filesystem.is_remote(self.path) else os.path.getsize(self.path)
                text = io.TextIOWrapper(stream, encoding=self._options.encoding, errors="replace", newline="")
                with tqdm(total=size, unit="B", unit_scale=True, desc=self.name, disable=not progress) as bar:
                    for chunk in self._read(text):
                        yield chunk
                        bar.update(raw.tell() - bar.n)
        except (OSError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
            raise DataError(f"File '{self.name}' cannot be read: {error}.") from None

    def _read(self, text: io.TextIOWrapper) -> Iterator[Chunk]:
        self._queue.clear()
        self._queue.append(text.readline().removeprefix("\ufeff"))
        columns = self._columns or self._header(text)
        check_columns(self.name, columns, self._wanted or ())
        row, seen = 0, False
        while lines := self._block(text):
            chunk, row = self._chunk(lines, columns, row, text)
            seen = True
            yield chunk
        if not seen:
            yield self._chunk([], columns, 0, text)[0]

    def _block(self, text: io.TextIOWrapper) -> list[str]:
        lines = list(self._queue)
        self._queue.clear()
        lines += text.readlines(self._chunk_characters)
        return [line for line in lines if line]

    def _next(self, text: io.TextIOWrapper) -> str:
        return self._queue.popleft() if self._queue else text.readline()

    def _header(self, text: io.TextIOWrapper) -> tuple[str, ...]:
        while line := self._next(text):
            record = self._record(line, text, None)
            if record is None:
                raise DataError(f"File '{self.name}' requires a header line, received {line[:100]!r}.")
            if record:
                columns = tuple(self._rename(c) for c in record)
                repeated = sorted({c for c in columns if columns.count(c) > 1})
                if repeated:
                    raise DataError(f"File '{self.name}' requires columns with different names, "
                                    f"received {repeated} repeatedly.")
                return columns
        raise DataError(f"File '{self.name}' requires a header line, received an empty file.")

    def _chunk(self, lines: list[str], columns: tuple[str, ...], row: int,
               text: io.TextIOWrapper) -> tuple[Chunk, int]:
        block = "".join(lines)
        if self._quote is None or self._quote not in block:
            arrays = self._split_whole(block, lines, columns)
            if arrays is not None:
                count = len(arrays[columns[0]])
                filled = [line for line in lines if line not in _BLANK] if count < len(lines) else lines

                def content_of_line(position: int) -> str:
                    values = _strip(filled[position]).split(self._options.separator)
                    return to_json(dict(zip(columns, values, strict=True)))

                return Chunk(self.name, np.arange(row, row + count), self._select(arrays), content_of_line), row + count
            records = [line.split(self._options.separator) for line in map(_strip, lines) if line]
        else:
            records = self._quoted_records(lines, len(columns), text)
        numbers = np.arange(row, row + len(records))
        row += len(records)
        # A string stands for a line that could not be parsed.
        wrong = [i for i, r in enumerate(records) if len(r) != len(columns) or r.__class__ is str]
        malformed = tuple(self._malformed(int(numbers[i]), records[i], len(columns)) for i in wrong)
        if wrong:
            numbers, bad = np.delete(numbers, wrong), set(wrong)
            records = [r for i, r in enumerate(records) if i not in bad]
        arrays = {name: string_array([r[i] for r in records]) for i, name in enumerate(columns)}

        def content(position: int) -> str:
            return to_json(dict(zip(columns, records[position], strict=True)))

        return Chunk(self.name, numbers, self._select(arrays), content, malformed), row

    def _select(self, arrays: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """Keeps the wanted columns and makes null of the texts that mean missing."""
        nulls = pa.array(self._options.null_values, pa.string())
        return {name: pc.if_else(pc.is_in(array, value_set=nulls), None, array) if len(nulls) else array
                for name, array in arrays.items() if self._wanted is None or name in self._wanted}

    def _split_whole(self, block: str, lines: list[str], columns: tuple[str, ...]) -> dict[str, pa.Array] | None:
        """Splits a block without quotes at the speed of Arrow; None where a row in it needs a closer look."""
        separator = self._options.separator
        if len(separator) > 1 or not separator.isascii():
            if _UNIT in block:
                return None
            block, separator = block.replace(separator, _UNIT), _UNIT
        try:
            data = block.encode("utf-8")
            table = pa_csv.read_csv(
                io.BytesIO(data),
                read_options=pa_csv.ReadOptions(column_names=columns, block_size=len(data) + 1, use_threads=False),
                parse_options=pa_csv.ParseOptions(delimiter=separator, quote_char=False, double_quote=False,
                                                  escape_char=False),
                convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()),
                                                      strings_can_be_null=False, check_utf8=False))
        except (pa.ArrowInvalid, UnicodeEncodeError):
            return None  # an odd number of columns somewhere, or nothing but blank lines
        blank = sum(line in _BLANK for line in lines)
        if table.num_rows != len(lines) - blank:
            return None
        return {name: column.combine_chunks() for name, column in zip(columns, table.columns, strict=True)}

    @staticmethod
    def _malformed(row: int, record: list[str] | str, width: int) -> tuple[int, str, str]:
        if isinstance(record, str):
            return row, "malformed_row", to_json({"line": record})
        reason = "too_few_columns" if len(record) < width else "too_many_columns"
        return row, reason, to_json({"values": record})

    def _quoted_records(self, lines: list[str], width: int, text: io.TextIOWrapper) -> list[list[str] | str]:
        try:
            records = list(csv.reader(lines, delimiter=self._options.separator, quotechar=self._quote, strict=True))
            if len(records) == len(lines):  # no value reaches over a line end
                return [r for r in records if r]
        except csv.Error:
            pass
        # Lines that a quoted value reaches over, and lines given back, go through the same queue.
        self._queue.extend(lines)
        records = []
        while self._queue:
            line = self._queue.popleft()
            record = self._record(line, text, width)
            if record is None:
                records.append(_strip(line))
            elif record:
                records.append(record)
        return records

    def _record(self, line: str, text: io.TextIOWrapper, width: int | None) -> list[str] | None:
        """Returns the record that starts with a line: [] for a blank one, None where the line is broken."""
        if self._quote is None or self._quote not in line:
            line = _strip(line)
            return line.split(self._options.separator) if line else []
        used: list[str] = []

        def feed():
            characters, following = 0, line
            while following and characters < _RECORD_CHARACTERS:
                used.append(following)
                characters += len(following)
                yield following
                following = self._next(text)
            if following:
                used.append(following)

        try:
            record = next(csv.reader(feed(), delimiter=self._options.separator, quotechar=self._quote, strict=True))
        except (csv.Error, StopIteration):
            record = None
        if record is None or (width is not None and len(record) != width and len(used) > 1):
            self._queue.extendleft(reversed(used[1:]))
            return None
        return record


def _strip(line: str) -> str:
    return line.rstrip("\r\n")
