"""JSON lines in blocks: a JSON object a line, where a broken line is a bad row and nothing more."""

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from tfmeta.data.cleaning.chunk import Chunk, string_array, to_json
from tfmeta.data.readers.files import open_binary
from tfmeta.errors import DataError
from tfmeta.io import filesystem

CHUNK_CHARACTERS = 8 << 20
_LOOK_AT = 256


def json_columns(path: str) -> list[str]:
    """Returns the keys of a file's first objects, in order of first sight; DataError if no line is an object."""
    keys: dict[str, None] = {}
    seen = good = 0
    for _, lines in _blocks(path, 1 << 16, progress=False):
        for line in lines:
            if not line.strip():
                continue
            row = _parse(line)
            if row is not None:
                keys.update(dict.fromkeys(row))
            seen, good = seen + 1, good + (row is not None)
        if seen >= _LOOK_AT:
            break
    if not good:
        received = f"{seen} lines that are none" if seen else "an empty file"
        raise DataError(f"File '{path}' requires a JSON object a line, received {received}.")
    return list(keys)


def json_chunks(path: str, *, wanted: Iterable[str], progress: bool = False,
                chunk_characters: int = CHUNK_CHARACTERS) -> Iterator[Chunk]:
    """Yields the wanted keys of a file as columns; a key that a line lacks is a missing value.

    Args:
      path: the file; `.gz` is uncompressed on the way.
      wanted: keys to pass on.
      progress: show a bar.
      chunk_characters: how much text is held at once.

    Raises:
      DataError: if the file cannot be read.
    """
    wanted = list(wanted)
    seen = False
    for start, lines in _blocks(path, chunk_characters, progress=progress):
        numbers, rows, malformed = [], [], []
        for number, line in enumerate(lines, start):
            if not line.strip():
                continue
            row = _parse(line)
            if row is None:
                malformed.append((number, "malformed_row", to_json({"line": line.rstrip("\r\n")[:1000]})))
            elif any(_nested(row.get(name)) for name in wanted):
                malformed.append((number, "nested_value", to_json(row)))
            else:
                numbers.append(number)
                rows.append(row)
        seen = True
        yield _chunk(path, numbers, rows, tuple(malformed), wanted)
    if not seen:
        yield _chunk(path, [], [], (), wanted)


def _blocks(path: str, characters: int, *, progress: bool) -> Iterator[tuple[int, list[str]]]:
    """Yields (number of the first line, lines)."""
    try:
        with open_binary(path) as (stream, raw):
            size = None if filesystem.is_remote(path) else os.path.getsize(path)
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="\n")
            with tqdm(total=size, unit="B", unit_scale=True, desc=filesystem.basename(path),
                      disable=not progress) as bar:
                number = 0
                while lines := text.readlines(characters):
                    yield number, lines
                    number += len(lines)
                    bar.update(raw.tell() - bar.n)
    except (OSError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"File '{path}' cannot be read: {error}.") from None


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _chunk(path: str, numbers: list[int], rows: list[dict], malformed: tuple, wanted: list[str]) -> Chunk:
    columns = {name: _array([row.get(name) for row in rows]) for name in wanted}

    def content(position: int) -> str:
        return to_json(rows[position])

    return Chunk(path, np.asarray(numbers, np.int64), columns, content, malformed)


def _nested(value: Any) -> bool:
    """Whether a value is neither a single one nor a list of such."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict | list) for v in value))


def _array(values: list) -> pa.Array:
    if any(isinstance(v, list) for v in values):
        # A line may have one value where others have a list of them.
        values = [v if isinstance(v, list) or v is None else [v] for v in values]
        lengths = [0 if v is None else len(v) for v in values]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), _array([x for v in values if v is not None for x in v]),
                                        mask=pa.array([v is None for v in values], pa.bool_()))
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return _strings(values)


def _strings(values: list) -> pa.Array:
    """Mixed types: strings keep every value readable, and the conversion decides which are good."""
    return string_array([None if v is None else v if isinstance(v, str) else to_json(v) for v in values])
