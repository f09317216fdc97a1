"""The ledger: which files the log has taken in, and which parts are therefore in it."""

import datetime
import functools
import json
import os
from typing import Any

from tfmeta.errors import DataError
from tfmeta.io import filesystem

FOLDER = "ledger"


class Ledger:
    """The entries of an event log, one for each file taken in.

    An entry is written after all parts that it names, so it is what makes them events of the log. A part that no entry
    names is the rest of an ingest that was cut off.

    Args:
      path: of the log.
    """

    def __init__(self, path: str):
        self._path = path
        self._entries: dict[str, dict[str, Any]] = {}

    def refresh(self) -> "Ledger":
        """Reads the entries that have come since."""
        folder = filesystem.join(self._path, FOLDER)
        names = filesystem.listdir(folder) if filesystem.is_dir(folder) else []
        for name in names:
            key = name.removesuffix(".json")
            if name.endswith(".json") and key not in self._entries:
                try:
                    self._entries[key] = json.loads(filesystem.read_text(filesystem.join(folder, name)))
                except ValueError as error:
                    raise DataError(f"Ledger entry '{filesystem.join(folder, name)}' is not valid JSON: {error}. "
                                    "Restore it, or remove it and ingest its file again.") from None
        self.__dict__.pop("_by_date", None)
        return self

    def get(self, key: str) -> dict[str, Any] | None:
        return self._entries.get(key)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Writes an entry; from then on its parts are in the log."""
        if not filesystem.is_remote(self._path):
            # The entry must not outlive a loss of power that its parts do not.
            for folder in {os.path.dirname(part["path"]) for part in entry["parts"]} | {""}:
                _sync(os.path.join(self._path, folder))
        entry = {"layout": 1, "ingest_id": key, **entry,
                 "ingested": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        filesystem.write_text(filesystem.join(self._path, FOLDER, f"{key}.json"),
                              json.dumps(entry, ensure_ascii=False, indent=1))
        self._entries[key] = entry
        self.__dict__.pop("_by_date", None)

    @functools.cached_property
    def _by_date(self) -> dict[str, list[dict[str, Any]]]:
        parts: dict[str, list[dict[str, Any]]] = {}
        for key in sorted(self._entries):
            for part in self._entries[key]["parts"]:
                parts.setdefault(part["date"], []).append({**part, "kind": self._entries[key]["kind"]})
        return dict(sorted(parts.items()))

    @property
    def dates(self) -> list[str]:
        """Days that have parts, `YYYY-MM-DD`, in order, those whose folder was removed since among them."""
        return list(self._by_date)

    def parts(self, *, date: str, kind: str | None = None) -> list[dict[str, Any]]:
        """Returns `path` (relative), `rows`, `date`, `kind` of a day's parts.

        A day whose folder was removed whole has none: that is how old events leave the log.

        Raises:
          DataError: if the folder is there and a part of it is not.
        """
        found = [p for p in self._by_date.get(date, []) if kind in (None, p["kind"])]
        folder = filesystem.join(self._path, f"date={date}")
        if not found or not filesystem.is_dir(folder):
            return []
        names = set(filesystem.listdir(folder))
        for part in found:
            if filesystem.basename(part["path"]) not in names:
                raise DataError(f"Event log '{self._path}' is damaged: '{part['path']}' is missing. Restore it, or "
                                f"remove the folder 'date={date}' to drop that day.")
        return found

    def named(self) -> set[str]:
        """Returns the relative paths of all parts."""
        return {part["path"] for parts in self._by_date.values() for part in parts}


def _sync(path: str) -> None:
    if os.path.isdir(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
