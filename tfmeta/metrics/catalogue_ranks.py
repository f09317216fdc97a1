"""Full-catalogue metrics per task: every item of the catalogue is scored, and the held-out relevant ones are found.

As everywhere, tied items are taken in random order and the values are exact expectations over it. Values are `[T]`
float64, NaN where nothing is relevant.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class CatalogueRanks:
    """Where the relevant items of `T` tasks stand among all candidates.

    Attributes:
      above: `[T, R]` int64, candidates that score strictly higher.
      tied: `[T, R]` int64, candidates that score the same, the item itself among them; 0 in padding.
    """

    above: np.ndarray
    tied: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, candidate: np.ndarray, relevant: np.ndarray) -> "CatalogueRanks":
        """Counts.

        Args:
          score: `[T, I]`, higher is better.
          candidate: `[T, I]` bool, items that may be recommended: all but those the user has met.
          relevant: `[T, R]` item rows that count, -1 in padding.
        """
        real = relevant >= 0
        own = np.take_along_axis(score, np.where(real, relevant, 0), axis=1)
        above, tied = np.zeros(relevant.shape, np.int64), np.zeros(relevant.shape, np.int64)
        for j in range(relevant.shape[1]):  # R is small; [T, R, I] at once would not be.
            above[:, j] = (candidate & (score > own[:, j:j + 1])).sum(axis=1)
            tied[:, j] = (candidate & (score == own[:, j:j + 1])).sum(axis=1)
        return cls(np.where(real, above, 0), np.where(real, np.maximum(tied, 1), 0))

    @classmethod
    def chance(cls, candidate: np.ndarray, relevant: np.ndarray) -> "CatalogueRanks":
        """The ranks of random scores: all candidates tied."""
        return cls.of(np.zeros(candidate.shape), candidate, relevant)

    @classmethod
    def perfect(cls, relevant: np.ndarray, gain: np.ndarray) -> "CatalogueRanks":
        """The ranks of the best order: relevant items first, the larger `gain [T, R]` before the smaller."""
        real = relevant >= 0
        order = np.argsort(np.argsort(-np.where(real, gain, -np.inf), axis=1, kind="stable"), axis=1, kind="stable")
        return cls(np.where(real, order, 0), real.astype(np.int64))

    def recall(self, *, k: int) -> np.ndarray:
        """Relevant items among the first k of the catalogue, divided by all relevant ones."""
        inside = np.clip((k - self.above) / np.maximum(self.tied, 1), 0.0, 1.0)
        return self._ratio(np.where(self.tied > 0, inside, 0.0).sum(axis=1), (self.tied > 0).sum(axis=1))

    def ndcg(self, gain: np.ndarray, *, k: int) -> np.ndarray:
        """NDCG at k; `gain [T, R]` is that of the relevant items (2^label - 1), everything else has none."""
        gain = np.where(self.tied > 0, gain, 0.0).astype(np.float64)
        discount = 1.0 / np.log2(np.arange(k) + 2.0)
        total = np.append(0.0, np.cumsum(discount))
        first, last = np.minimum(self.above, k), np.minimum(self.above + self.tied, k)
        expected = (total[last] - total[first]) / np.maximum(self.tied, 1)
        best = -np.sort(-gain, axis=1)[:, :k]
        return self._ratio((gain * expected).sum(axis=1), best @ discount[:best.shape[1]])

    @staticmethod
    def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        defined = denominator > 0
        return np.where(defined, numerator / np.where(defined, denominator, 1.0), np.nan)
