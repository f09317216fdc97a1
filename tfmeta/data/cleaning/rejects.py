"""The quarantine."""

from collections import Counter

import numpy as np
import pandas as pd

from tfmeta.data.cleaning.chunk import Chunk


class Rejects:
    """Collects bad rows of the interactions, users and items files.

    Attributes:
      by_reason: kind of file (`interactions`, `users`, `items`) -> reason -> rows.
    """

    def __init__(self):
        self.by_reason: dict[str, Counter] = {k: Counter() for k in ("interactions", "users", "items")}
        self._entries: list[tuple[int, int, str, str]] = []  # order of the file, row, reason, content
        self._files: dict[tuple[str, str], int] = {}

    def add(self, kind: str, chunk: Chunk, reason: str, positions: np.ndarray) -> None:
        """Adds rows of a chunk, by their positions in it."""
        if not len(positions):
            return
        file = self._file(kind, chunk)
        self.by_reason[kind][reason] += len(positions)
        self._entries.extend((file, int(chunk.rows[p]), reason, chunk.content(int(p))) for p in positions)

    def add_malformed(self, kind: str, chunk: Chunk) -> None:
        """Adds the rows that the reader could not split into columns."""
        file = self._file(kind, chunk)
        for row, reason, content in chunk.malformed:
            self.by_reason[kind][reason] += 1
            self._entries.append((file, row, reason, content))

    def _file(self, kind: str, chunk: Chunk) -> int:
        return self._files.setdefault((kind, chunk.file), len(self._files))

    def rows(self, kind: str) -> int:
        """Returns how many rows were left out; bad features leave no row out."""
        return sum(n for reason, n in self.by_reason[kind].items() if not reason.startswith("bad_feature:"))

    def first(self, kind: str) -> tuple[str, int, str, str]:
        """Returns (file, row, reason, content) of the first row of a kind that was left out."""
        files = {number: name for (k, name), number in self._files.items() if k == kind}
        entries = (e for e in self._entries if e[0] in files and not e[2].startswith("bad_feature:"))
        number, row, reason, content = min(entries, key=lambda e: e[:2])
        return files[number], row, reason, content

    def frame(self) -> pd.DataFrame:
        """Returns `file, row, reason, content`, in the order of files and rows."""
        entries = sorted(self._entries, key=lambda e: e[:2])  # stable: reasons of a row keep their order
        names = {number: name for (_, name), number in self._files.items()}
        return pd.DataFrame({
            "file": pd.Series([names[e[0]] for e in entries], dtype="str"),
            "row": pd.Series([e[1] for e in entries], dtype="int64"),
            "reason": pd.Series([e[2] for e in entries], dtype="str"),
            "content": pd.Series([e[3] for e in entries], dtype="str")})
