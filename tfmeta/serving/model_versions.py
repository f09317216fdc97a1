"""Version directories of a model base path."""

import os

from tfmeta.io import filesystem

_LARGEST = 2**63 - 1


def list_versions(model_base: str) -> dict[int, str]:
    """Returns version number -> directory of all numeric directories below a base path, ascending; empty if none."""
    if not filesystem.exists(model_base) or not filesystem.is_dir(model_base):
        return {}
    names = [n for n in filesystem.listdir(model_base) if n.isascii() and n.isdigit() and int(n) <= _LARGEST]
    return {int(n): filesystem.join(model_base, n) for n in sorted(names, key=int)
            if filesystem.is_dir(filesystem.join(model_base, n))}


def fingerprint(directory: str) -> tuple | None:
    """Returns what changes when a file below the directory does: names, sizes, times; None if it cannot be listed."""
    try:
        return tuple((name, *_stat(filesystem.join(directory, name))) for name in filesystem.walk(directory))
    # What a file system raises for a directory that is being written or removed is its own affair.
    except Exception:
        return None


def _stat(path: str) -> tuple[int, ...]:
    """Returns size and time of a file; nothing for one that has gone, or that a file system lists without having."""
    try:
        if filesystem.is_remote(path):
            import tensorflow as tf

            found = tf.io.gfile.stat(path)
            return found.length, found.mtime_nsec
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns, found.st_ino
    except Exception:
        return ()
