"""Writes the files of a prepared directory and the manifest over them."""

import json
import os
from collections.abc import Callable

from tfmeta.data.prepared_data import FORMAT, MANIFEST, sha256
from tfmeta.io import filesystem


def write_directory(out: str, files: dict[str, bytes | Callable], *, overwrite: bool = False) -> None:
    """Writes a prepared directory, whole or not at all.

    Args:
      out: the directory to create, on any file system.
      files: name -> bytes, or a function of `path` that writes the file there.
      overwrite: replace a directory that is there.

    Raises:
      DataError: if `out` exists and is not to be replaced.
    """
    manifest = {"format": FORMAT, "files": {}}
    with filesystem.atomic_directory(out, overwrite=overwrite, last=(MANIFEST,)) as folder:
        filesystem.makedirs(filesystem.join(folder, "tasks"))
        for name, content in files.items():
            path = filesystem.join(folder, name)
            if callable(content):
                content(path=path)
            else:
                with filesystem.open_file(path, "wb") as file:
                    file.write(content)
            with filesystem.open_file(path, "rb") as file:
                manifest["files"][name] = {"bytes": os.path.getsize(path), "sha256": sha256(file)}
        with filesystem.open_file(filesystem.join(folder, MANIFEST), "wb") as file:
            file.write(json.dumps(manifest, indent=2).encode("utf-8"))
