"""Files on a local disk or on anything that `tf.io.gfile` opens (`gs://`, `s3://`, `ram://`).

Local paths never import TensorFlow, so that data preparation and the client start fast; a path with a scheme
imports it on first use.
"""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator

from tfmeta.errors import DataError


def is_remote(path: str) -> bool:
    """Whether the path names another file system than the local disk."""
    return "://" in str(path)


def join(path: str, *parts: str) -> str:
    """Joins path components with `/` on remote file systems, natively on the local disk."""
    path = str(path)
    if is_remote(path):
        return "/".join([path.rstrip("/"), *(p.strip("/") for p in parts)])
    return os.path.join(path, *parts)


def basename(path: str) -> str:
    return str(path).rstrip("/").rsplit("/", 1)[-1]


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


def exists(path: str) -> bool:
    return _gfile().exists(path) if is_remote(path) else os.path.exists(path)


def is_dir(path: str) -> bool:
    return _gfile().isdir(path) if is_remote(path) else os.path.isdir(path)


def listdir(path: str) -> list[str]:
    """Returns the names in a directory, sorted, without trailing slashes."""
    names = _gfile().listdir(path) if is_remote(path) else os.listdir(path)
    return sorted(n.rstrip("/") for n in names)


def makedirs(path: str) -> None:
    _gfile().makedirs(path) if is_remote(path) else os.makedirs(path, exist_ok=True)


def remove_tree(path: str) -> None:
    """Removes a file or directory with all it holds; no error where there is none."""
    if is_remote(path):
        gfile = _gfile()
        if gfile.isdir(path):
            gfile.rmtree(path)
        elif gfile.exists(path):
            gfile.remove(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


def open_file(path: str, mode: str = "rb"):
    """Opens a file; DataError names it where it cannot be opened for reading."""
    if is_remote(path):
        gfile = _gfile()
        if "r" in mode and not gfile.exists(path):
            raise DataError(f"File '{path}' does not exist.")
        if "w" in mode and str(path).startswith("ram://") and gfile.exists(path):
            gfile.remove(path)  # TensorFlow's memory file system appends where others truncate.
        return gfile.GFile(path, mode)
    try:
        return open(path, mode, encoding=None if "b" in mode else "utf-8")
    except FileNotFoundError:
        raise DataError(f"File '{path}' does not exist.") from None
    except (PermissionError, IsADirectoryError) as error:
        raise DataError(f"File '{path}' cannot be opened: {error.strerror}.") from None


def read_bytes(path: str) -> bytes:
    with open_file(path, "rb") as file:
        return file.read()


def read_text(path: str) -> str:
    return read_bytes(path).decode("utf-8")


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file whole: locally through a synced sibling and a rename, so a reader never sees a part.

    A local folder that is not there yet is made.
    """
    if is_remote(path):
        with open_file(path, "wb") as file:
            file.write(data)
        return
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    sibling = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with open(sibling, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(sibling, path)
    finally:
        if os.path.exists(sibling):
            os.remove(sibling)


def write_text(path: str, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def copy_tree(source: str, target: str, *, last: tuple[str, ...] = ()) -> None:
    """Copies a directory file by file; the files named in `last` (relative paths) come last, in order.

    On object stores, where a rename is a copy, a reader takes the presence of the last file for completeness.
    """
    files = sorted(walk(source))
    ordered = [f for f in files if f not in last] + [f for f in last if f in files]
    for name in ordered:
        destination = join(target, name)
        makedirs(destination.rsplit("/", 1)[0])
        with open_file(join(source, name), "rb") as reader, open_file(destination, "wb") as writer:
            while chunk := reader.read(8 << 20):
                writer.write(chunk)


def walk(path: str, prefix: str = "") -> Iterator[str]:
    """Yields the relative paths of all files below a directory."""
    for name in listdir(path):
        full = join(path, name)
        if is_dir(full):
            yield from walk(full, f"{prefix}{name}/")
        else:
            yield prefix + name


@contextlib.contextmanager
def atomic_directory(path: str, *, overwrite: bool = False, last: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields a temporary directory that becomes `path` when the block ends without an error.

    Locally a sibling is synced and renamed. Elsewhere the files are written to local disk and then copied, those
    named in `last` at the end. After an error nothing is left at `path` that was not there before.

    Args:
      path: the directory to create.
      overwrite: replace what is there; otherwise an existing, non-empty `path` is an error.
      last: relative paths whose presence tells a reader that the directory is whole.

    Raises:
      DataError: if `path` exists and is not empty.
    """
    path = str(path).rstrip("/")
    if exists(path) and not overwrite and (not is_dir(path) or listdir(path)):
        raise DataError(f"'{path}' exists already. Choose another directory or remove it first.")
    if is_remote(path):
        with tempfile.TemporaryDirectory() as local:
            yield local
            if overwrite and exists(path):
                remove_tree(path)
            try:
                copy_tree(local, path, last=last)
            except BaseException:
                remove_tree(path)
                raise
        return
    parent = os.path.dirname(os.path.abspath(path))
    os.makedirs(parent, exist_ok=True)
    # A leading dot and a non-numeric name: a server that polls the parent ignores it.
    sibling = os.path.join(parent, f".{os.path.basename(path)}.{uuid.uuid4().hex[:8]}.tmp")
    os.makedirs(sibling)
    try:
        yield sibling
        _sync_tree(sibling)
        if os.path.exists(path):
            # An empty directory is replaced by the rename; a full one moves aside first.
            old = f"{sibling}.old"
            os.rename(path, old)
            try:
                os.rename(sibling, path)
            except BaseException:
                os.rename(old, path)
                raise
            remove_tree(old)
        else:
            os.rename(sibling, path)
        _sync(parent)
    finally:
        shutil.rmtree(sibling, ignore_errors=True)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(path: str) -> None:
    for folder, _, files in os.walk(path):
        for name in files:
            _sync(os.path.join(folder, name))
        _sync(folder)
