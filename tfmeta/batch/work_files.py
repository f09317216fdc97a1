"""Files that workers leave for each other: whole or not there."""

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator

from tfmeta.io import filesystem


@contextlib.contextmanager
def publish(path: str) -> Iterator[str]:
    """Yields a local file to write, which becomes `path` when the block ends without an error.

    On a local disk it is a hidden sibling, synced and renamed. Elsewhere it is copied: an object store shows an object
    when all of it is there.
    """
    if filesystem.is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = os.path.join(folder, filesystem.basename(path))
            yield local
            filesystem.makedirs(path.rsplit("/", 1)[0])
            with open(local, "rb") as reader, filesystem.open_file(path, "wb") as writer:
                while data := reader.read(8 << 20):
                    writer.write(data)
        return
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    sibling = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield sibling
        descriptor = os.open(sibling, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(sibling, path)
    finally:
        if os.path.exists(sibling):
            os.remove(sibling)


def read_record(path: str) -> dict | None:
    """Returns what `write_record` wrote, None where there is nothing or not a record."""
    try:
        if not filesystem.exists(path):
            return None
        record = json.loads(filesystem.read_text(path))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def write_record(path: str, record: dict) -> None:
    """Writes a small JSON object."""
    if filesystem.is_remote(path):
        filesystem.makedirs(path.rsplit("/", 1)[0])
    filesystem.write_text(path, json.dumps(record, sort_keys=True))
