"""Queries in the order of their scores, with ties kept as groups."""

import dataclasses
import functools

import numpy as np

from tfmeta.errors import DataError


@dataclasses.dataclass(frozen=True)
class RankedList:
    """`T` queries sorted by descending score; positions count from 0, padding comes last.

    Items of equal score form a group whose order is taken to be uniformly random, and every list metric is the
    exact expectation over that order: whoever scores all items the same gets what random scores get.

    Attributes:
      label: `[T, Q]` float64, sorted; 0 in padding.
      real: `[T, Q]` bool, False in padding.
      start, stop: `[T, Q]` int64, the positions `[start, stop)` that the group of the item at a position takes.
      length: `[T]` int64.
    """

    label: np.ndarray
    real: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    length: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, label: np.ndarray, length: np.ndarray) -> "RankedList":
        """Sorts queries.

        Args:
          score: `[T, Q]`, higher is better; infinities are allowed, padding is ignored.
          label: `[T, Q]`, padding is ignored.
          length: `[T]` integers, real entries of each row.

        Raises:
          DataError: if shapes disagree or a real score or label is NaN.
        """
        score, label, real = check(score, label, length)
        length = np.asarray(length, np.int64)
        width = score.shape[1]
        # -inf of a real item must still come before padding, hence two keys.
        order = np.lexsort((-np.where(real, score, 0.0), ~real), axis=1)
        score = np.take_along_axis(score, order, axis=1)
        real = np.arange(width)[None, :] < length[:, None]
        position = np.broadcast_to(np.arange(width), score.shape)
        first = np.ones(score.shape, bool)
        first[:, 1:] = (score[:, 1:] != score[:, :-1]) | (real[:, 1:] != real[:, :-1])
        start = np.maximum.accumulate(np.where(first, position, 0), axis=1)
        last = np.ones(score.shape, bool)
        last[:, :-1] = first[:, 1:]
        stop = np.minimum.accumulate(np.where(last, position + 1, width)[:, ::-1], axis=1)[:, ::-1]
        label = np.where(real, np.take_along_axis(label, order, axis=1), 0.0)
        return cls(label, real, start, stop, length)

    @functools.cached_property
    def ideal(self) -> "RankedList":
        """The same queries ordered by their labels: the ceiling of every list metric."""
        return RankedList.of(self.label, self.label, self.length)

    @functools.cached_property
    def tied(self) -> "RankedList":
        """The same queries with all scores equal: the chance floor of every list metric."""
        return RankedList.of(np.zeros_like(self.label), self.label, self.length)

    def expected_weight(self, weight: np.ndarray) -> np.ndarray:
        """Returns `[T, Q]`: expectation of `weight [Q]` at the position that the item ends up at; 0 in padding."""
        total = np.append(0.0, np.cumsum(weight, dtype=np.float64))
        return np.where(self.real, (total[self.stop] - total[self.start]) / (self.stop - self.start), 0.0)

    def relevant(self, threshold: float) -> np.ndarray:
        """Returns `[T, Q]` bool: real items whose label reaches the threshold."""
        return self.real & (self.label >= threshold)


def check(score: np.ndarray, label: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (score float64, label float64, real bool), all `[T, Q]`, padding of both zeroed.

    Raises:
      DataError: if shapes disagree or a real score or label is NaN.
    """
    score, label = np.asarray(score, np.float64), np.asarray(label, np.float64)
    length = np.asarray(length)
    if score.ndim != 2 or score.shape != label.shape or length.shape != score.shape[:1]:
        raise DataError(f"Metrics require scores and labels [T, Q] and lengths [T], received {score.shape}, "
                        f"{label.shape} and {length.shape}.")
    if length.size and (length.min() < 0 or length.max() > score.shape[1]):
        raise DataError(f"Metrics require lengths from 0 to {score.shape[1]}, received {length.min()} to "
                        f"{length.max()}.")
    real = np.arange(score.shape[1])[None, :] < length[:, None]
    for name, values in (("score", score), ("label", label)):
        bad = real & np.isnan(values)
        if bad.any():
            task, item = np.argwhere(bad)[0]
            raise DataError(f"Metrics require a {name} for every query item; that of task {task}, item {item} is "
                            f"NaN ({int(bad.sum())} in all).")
    return np.where(real, score, 0.0), np.where(real, label, 0.0), real
