"""Finding and opening the files of a source."""

import contextlib
import fnmatch
import gzip
import io
from collections.abc import Iterator
from typing import BinaryIO

from tfmeta.data.schema import Schema
from tfmeta.errors import ConfigError, DataError
from tfmeta.io import filesystem


def find(source: str, patterns: tuple[str, ...]) -> list[tuple[str, str]]:
    """Returns (path, name relative to the source) of every file that the patterns name.

    Args:
      source: a directory.
      patterns: relative paths; the last component may be a glob, whose matches come in the order of their names.

    Raises:
      DataError: if a pattern matches no file.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        folder, _, last = pattern.replace("\\", "/").rpartition("/")
        base = filesystem.join(source, folder) if folder else source
        if any(c in last for c in "*?["):
            names = filesystem.listdir(base) if filesystem.is_dir(base) else []
            names = [n for n in names if fnmatch.fnmatchcase(n, last)
                     and not filesystem.is_dir(filesystem.join(base, n))]
        else:
            path = filesystem.join(base, last)
            names = [last] if filesystem.exists(path) and not filesystem.is_dir(path) else []
        if not names:
            raise DataError(f"No file matches '{pattern}' in '{source}'. Correct the path in the schema or --source.")
        for name in names:
            found.setdefault(filesystem.join(base, name), f"{folder}/{name}" if folder else name)
    return list(found.items())


def find_all(source: str, schema: Schema | None, *, reader: str) -> dict[str, list[tuple[str, str]] | None]:
    """Returns kind (`interactions`, `users`, `items`) -> files, None for a kind without files.

    Raises:
      ConfigError: if there is no schema, or it names no interactions and the source is a directory.
      DataError: if the source or a file is absent.
    """
    if schema is None:
        raise ConfigError(f"Reader '{reader}' requires a schema, received none. Name one with --schema FILE.")
    source = str(source).rstrip("/") or "/"
    if not filesystem.exists(source):
        raise DataError(f"Source '{source}' does not exist.")
    if not filesystem.is_dir(source):
        if schema.files("users") or schema.files("items"):
            raise ConfigError(f"A schema with users or items files requires a directory as source, "
                              f"received the file '{source}'.")
        return {"interactions": [(source, filesystem.basename(source))], "users": None, "items": None}
    if not schema.files("interactions"):
        raise ConfigError("The schema requires 'interactions' (a path, a glob or a list) where the source is a "
                          f"directory; received none for '{source}'.")
    return {kind: find(source, schema.files(kind)) if schema.files(kind) else None
            for kind in ("interactions", "users", "items")}


@contextlib.contextmanager
def open_binary(path: str) -> Iterator[tuple[io.BufferedIOBase, BinaryIO]]:
    """Yields (the bytes, uncompressed where the name ends in `.gz`; the file itself, whose `tell` is progress)."""
    with filesystem.open_file(path, "rb") as raw:
        if path.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield io.BufferedReader(unzipped), raw
        elif filesystem.is_remote(path):
            yield io.BufferedReader(_Stream(raw)), raw
        else:
            yield raw, raw


class _Stream(io.RawIOBase):
    """A file of `tf.io.gfile` as a raw stream of the standard library."""

    def __init__(self, file):
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._file.tell()
        elif whence == io.SEEK_END:
            offset += self._file.size()
        self._file.seek(offset)
        return offset

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer) -> int:
        data = self._file.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)
