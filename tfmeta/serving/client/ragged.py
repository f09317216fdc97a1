"""Lists of items, one list a user, of different lengths."""

import dataclasses
import functools

import numpy as np

from tfmeta.data.feature import Feature
from tfmeta.serving.client.raw_values import missing_array


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Items of several users, end to end.

    Attributes:
      features: what each item has.
      columns: feature name -> raw values `[N, ...]`.
      counts: items of each user `[B]`.
      batched: whether the lists were given user by user; one that was not is shared by all users.
      labels: `[N]` float32, or None for items without labels.
    """

    features: tuple[Feature, ...]
    columns: dict[str, np.ndarray]
    counts: np.ndarray
    batched: bool
    labels: np.ndarray | None = None

    def for_users(self, users: int) -> "Ragged":
        """Returns the lists of a number of users: a shared one is the list of each."""
        return self if self.batched else dataclasses.replace(self, counts=np.repeat(self.counts[:1], users))

    @property
    def total(self) -> int:
        """N, the number of items held."""
        return int(self.counts.sum()) if self.batched else int(self.counts[0])

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """Where each user's items begin `[B]`."""
        return np.cumsum(self.counts) - self.counts if self.batched else np.zeros(len(self.counts), np.int64)

    def index(self, rows: np.ndarray, *, start: int = 0, width: int) -> np.ndarray:
        """Returns positions `[R, width]` of the users' items from `start` on; N for padding.

        Args:
          rows: users `[R]`.
          start: first item of each user's list.
          width: columns.
        """
        column = start + np.arange(width)[None, :]
        return np.where(column < self.counts[rows, None], self.offsets[rows, None] + column, self.total)

    def padded(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Returns feature name -> `[R, width, ...]`; padding holds the features' missing values."""
        return {name: column[index] for name, column in self._columns_and_padding.items()}

    def padded_labels(self, index: np.ndarray) -> np.ndarray:
        """Returns labels `[R, width]` float32, 0 for padding."""
        return self._labels_and_padding[index]

    def tail(self, bound: int) -> "Ragged":
        """Returns the last `bound` items of each user."""
        if not len(self.counts) or self.counts.max() <= bound:
            return self
        counts, position = self.counts if self.batched else self.counts[:1], np.arange(self.total)
        keep = position >= np.repeat(np.cumsum(counts) - np.minimum(counts, bound), counts)
        return dataclasses.replace(
            self, columns={k: v[keep] for k, v in self.columns.items()}, counts=np.minimum(self.counts, bound),
            labels=None if self.labels is None else self.labels[keep])

    @functools.cached_property
    def _columns_and_padding(self) -> dict[str, np.ndarray]:
        return {f.name: np.concatenate([self.columns[f.name], missing_array(f, 1)]) for f in self.features}

    @functools.cached_property
    def _labels_and_padding(self) -> np.ndarray:
        return np.append(self.labels, np.float32(0))
