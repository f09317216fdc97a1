"""Data sets from where they are published."""

import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
import zipfile
import zlib

from tqdm import tqdm

from tfmeta.errors import DataError
from tfmeta.io import filesystem

_BLOCK = 1 << 18
_TIMEOUT_SECONDS = 60.0


def download_movielens_1m(target: str, *, url: str = "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
                          checksum: str = "md5:c4d9eecfca2ab87c1945afe126590906", progress: bool = True) -> str:
    """Downloads MovieLens-1M (6 MB; GroupLens allows research, no redistribution) and unpacks it.

    Args:
      target: directory that gets the directory `ml-1m`; nothing is fetched where that is there already.
      url: where the archive is.
      checksum: `md5:` or `sha256:` and hexadecimal digits.
      progress: show a bar on stderr.

    Returns:
      The directory with `ratings.dat`, `users.dat` and `movies.dat`.

    Raises:
      DataError: if there is no network, the checksum differs or the archive lacks a file.
    """
    return download_zip(url, filesystem.join(target, "ml-1m"), checksum=checksum, progress=progress,
                        required=("ratings.dat", "users.dat", "movies.dat"))


def download_movielens_100k(target: str, *,
                            url: str = "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
                            checksum: str = "md5:0e33842e24a9c977be4e0107933c0723", progress: bool = True) -> str:
    """Downloads MovieLens-100K (5 MB) as `download_movielens_1m` does.

    Returns:
      The directory `ml-100k` in `target`, with `u.data`, `u.user` and `u.item`.
    """
    return download_zip(url, filesystem.join(target, "ml-100k"), checksum=checksum, progress=progress,
                        required=("u.data", "u.user", "u.item"))


def download_zip(url: str, directory: str, *, checksum: str, required: tuple[str, ...],
                 progress: bool = True) -> str:
    """Fetches an archive, verifies it and puts its files into a directory, whole or not at all.

    Args:
      url: http or https address of a zip.
      directory: where the files go, without the folders of the archive.
      checksum: `md5:` or `sha256:` and hexadecimal digits, of the archive.
      required: names that the archive must have.
      progress: show a bar on stderr.

    Returns:
      `directory`.

    Raises:
      DataError: if the archive cannot be fetched, its checksum differs, it lacks a file, or `directory` has files
        but not all of those required.
    """
    if all(filesystem.exists(filesystem.join(directory, name)) for name in required):
        return directory
    data = _fetch(url, progress)
    _verify(url, data, checksum)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Only names, no paths: an archive cannot write outside the directory.
            members = {os.path.basename(n): n for n in archive.namelist() if not n.endswith("/")}
            missing = [name for name in required if name not in members]
            if missing:
                raise DataError(f"The archive at {url} requires files {list(required)}, but lacks {missing}.")
            with filesystem.atomic_directory(directory) as temporary:
                for name, member in members.items():
                    with open(os.path.join(temporary, name), "wb") as file:
                        file.write(archive.read(member))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"The file at {url} requires a zip archive, received {error}.") from None
    return directory


def _fetch(url: str, progress: bool) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise DataError(f"A download requires an http or https address, received '{url}'.")
    # Archives of some megabytes: in memory, so that no partial file can be left behind.
    parts = []
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            size = int(response.headers.get("Content-Length") or 0) or None
            with tqdm(total=size, unit="B", unit_scale=True, desc=filesystem.basename(url),
                      disable=not progress) as bar:
                while block := response.read(_BLOCK):
                    parts.append(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        raise DataError(f"{url} cannot be downloaded: the server answered {error.code} {error.reason}.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url} cannot be downloaded: {reason}. Check the network connection, or download and unpack "
                        "the archive elsewhere and name its directory with --source.") from None
    return b"".join(parts)


def _verify(url: str, data: bytes, checksum: str) -> None:
    algorithm, _, expected = checksum.partition(":")
    if algorithm not in ("md5", "sha256"):
        raise DataError(f"A checksum requires the form md5:DIGITS or sha256:DIGITS, received '{checksum}'.")
    received = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if received != expected.lower():
        raise DataError(f"The archive at {url} requires {algorithm} {expected}, received {received} "
                        f"({len(data)} bytes). Try again; if it stays so, the file was changed.")
