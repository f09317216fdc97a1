"""The items that a model's directory names, with their titles where it has them."""

import bisect
import functools
import io
import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfmeta.errors import TfmetaError
from tfmeta.io import filesystem

EXTRAS = "assets.extra"
FILE = "item_titles.parquet"
_LOG = logging.getLogger("tfmeta.serving")


class ItemTitles:
    """Raw ids of items as text, with what people call them.

    Args:
      ids: `[I]` raw ids as text.
      titles: `[I]` text, null where an item has none; None if there are no titles.

    Attributes:
      source: `titles`, `ids` (no title is known) or `none` (not even ids).
    """

    def __init__(self, ids: pa.Array, titles: pa.Array | None = None):
        self._ids = ids.cast(pa.string())
        self._titles = None if titles is None else pc.fill_null(titles.cast(pa.string()), "")
        self.source = "none" if not len(ids) else "ids" if titles is None else "titles"

    @classmethod
    def read(cls, path: str) -> "ItemTitles":
        """Reads what a version directory has: the titles of its export, or else the item ids of its training data.

        Args:
          path: of the version. A file that is absent or cannot be read counts as if it had none.
        """
        extras = filesystem.join(path, EXTRAS)
        for name, parse in ((FILE, _titles), ("feature_spec.json", _vocabulary)):
            file = filesystem.join(extras, name)
            try:
                if filesystem.exists(file):
                    return cls(*parse(filesystem.read_bytes(file)))
            except (TfmetaError, OSError, pa.ArrowException, ValueError, KeyError, TypeError) as error:
                _LOG.warning("The page cannot read '%s': %s", file, str(error).splitlines()[0] if str(error) else error)
        return cls(pa.array([], pa.string()))

    def __len__(self) -> int:
        return len(self._ids)

    def search(self, text: str, *, count: int) -> list[dict]:
        """Finds items whose title has all words of a text, or whose id is or begins with it.

        Args:
          text: what somebody typed; empty for the first items.
          count: how many at most.

        Returns:
          `{"id", "title"}` each, the id itself first, then titles that begin with the text.
        """
        text = text.strip()
        if not text:
            return self._named(np.arange(min(count, len(self))))
        first = pc.equal(self._ids, text)
        places = [first, pc.starts_with(self._ids, text)]
        if self._titles is not None:
            words = [pc.match_substring(self._titles, word, ignore_case=True) for word in text.split()]
            found = words[0]
            for word in words[1:]:
                found = pc.and_(found, word)
            places[1:1] = [pc.starts_with(self._titles, text, ignore_case=True), found]
        rows: dict[int, None] = {}
        for mask in places:
            rows |= dict.fromkeys(np.flatnonzero(mask.to_numpy(zero_copy_only=False))[:count].tolist())
        return self._named(np.array(list(rows)[:count], np.int64))

    def titles(self, ids: list[str]) -> list[str | None]:
        """Returns the title of each id, None where none is known."""
        if self._titles is None or not ids:
            return [None] * len(ids)
        names, order = self._sorted
        found = []
        for text in ids:
            # Arrow and Python order text alike, by code points.
            place = bisect.bisect_left(names, text, key=lambda name: name.as_py())
            there = place < len(names) and names[place].as_py() == text
            found.append((self._titles[order[place].as_py()].as_py() or None) if there else None)
        return found

    def sample(self, count: int) -> list[str]:
        """Returns all ids, or `count` of them: the same ones every time."""
        if len(self) <= count:
            return self._ids.to_pylist()
        rows = np.random.default_rng(len(self)).choice(len(self), count, replace=False)
        return self._ids.take(pa.array(np.sort(rows))).to_pylist()

    @functools.cached_property
    def _sorted(self) -> tuple[pa.Array, pa.Array]:
        """The ids in order, and their rows; made once, when titles are first looked up."""
        order = pc.sort_indices(self._ids)
        return self._ids.take(order), order

    def _named(self, rows: np.ndarray) -> list[dict]:
        ids = self._ids.take(pa.array(rows)).to_pylist()
        titles = [None] * len(ids) if self._titles is None else self._titles.take(pa.array(rows)).to_pylist()
        return [{"id": i, "title": title or None} for i, title in zip(ids, titles, strict=True)]


def _titles(data: bytes) -> tuple[pa.Array, pa.Array]:
    table = pq.read_table(io.BytesIO(data), columns=["item_id", "title"])
    return table["item_id"].combine_chunks(), table["title"].combine_chunks()


def _vocabulary(data: bytes) -> tuple[pa.Array]:
    return (pa.array([str(value) for value in json.loads(data)["item_id"]["vocabulary"] or ()], pa.string()),)
