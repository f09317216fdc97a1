"""Recommendation out of the whole catalogue."""

import dataclasses

import numpy as np
import scipy.sparse

from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import ConfigError
from tfmeta.metrics.catalogue_ranks import CatalogueRanks

# Scores held at once.
_SCORES = 1 << 18


class Catalogue:
    """Measures `recall@k` and `ndcg@k` over all items that a user has not met, on the first split of the tasks.

    Candidates are all items but the user's training interactions and whole support, so they are the same at every k.
    Relevant are the query items with a label at or above the threshold, with a gain in proportion to
    `2^label - 1`.

    Args:
      train: training interactions.
      num_users, num_items: rows of the prepared data.
      label: threshold of relevance.
      cutoff: k of both metrics.
      ks: numbers of support rows to measure at; all scores of all items are computed at each.

    Raises:
      ConfigError: if the cut-off is below 1.
    """

    def __init__(self, train: Interactions, *, num_users: int, num_items: int, label: Label, cutoff: int = 20,
                 ks: tuple[int | str, ...] = (0, 5, "all")):
        if cutoff < 1:
            raise ConfigError(f"The cut-off of catalogue metrics requires at least 1, received {cutoff!r}.")
        self.num_items, self.label, self.cutoff, self.ks = num_items, label, cutoff, ks
        pairs = (train.user_row, train.item_row)
        self._met = scipy.sparse.csr_matrix((np.ones(len(train), bool), pairs), shape=(num_users, num_items))

    @property
    def metrics(self) -> tuple[str, str]:
        """Names of the metrics."""
        return f"recall@{self.cutoff}", f"ndcg@{self.cutoff}"

    def measure(self, scorer, blind: TaskSet, *, part: TaskSet) -> dict[str, np.ndarray]:
        """Returns name -> `[T]`, NaN for tasks of other splits than the first.

        Args:
          scorer: the model.
          blind: what it may see: tasks with truncated supports and without query labels.
          part: the same tasks with whole supports and labels.
        """
        prepared = scorer.catalogue(self.num_items) if hasattr(scorer, "catalogue") else None
        return self._collect(part, lambda index, candidate, relevant, gain: CatalogueRanks.of(
            prepared(blind.select(index)) if prepared else self._scores(scorer, blind.select(index)), candidate,
            relevant))

    def floor(self, part: TaskSet) -> dict[str, np.ndarray]:
        """Returns the expectation of both metrics under random scores, name -> `[T]`."""
        return self._collect(part, lambda index, candidate, relevant, gain: CatalogueRanks.chance(candidate, relevant))

    def ceiling(self, part: TaskSet) -> dict[str, np.ndarray]:
        """Returns the best attainable values, name -> `[T]`."""
        return self._collect(part, lambda index, candidate, relevant, gain: CatalogueRanks.perfect(relevant, gain))

    def _collect(self, part: TaskSet, rank) -> dict[str, np.ndarray]:
        values = {name: np.full(len(part), np.nan) for name in self.metrics}
        chosen = np.flatnonzero(part.split == part.split.min(initial=np.iinfo(np.int32).max))
        step = max(1, _SCORES // max(1, self.num_items))
        for start in range(0, len(chosen), step):
            index = chosen[start:start + step]
            tasks = part.select(index)
            real = np.arange(tasks.query_item.shape[1])[None, :] < tasks.query_length[:, None]
            label = np.where(real, tasks.query_label, -np.inf).astype(np.float64)
            relevant = np.where(label >= self.label.threshold, tasks.query_item, -1)
            # Over 2^top, which leaves NDCG as it is: counts of a thousand are common among weights.
            top = np.where(relevant >= 0, label, 0.0).max(axis=1, keepdims=True)
            gain = np.where(relevant >= 0, np.exp2(label - top) - np.exp2(-top), 0.0)
            ranks = rank(index, self._candidates(tasks), relevant, gain)
            for name, value in zip(self.metrics, (ranks.recall(k=self.cutoff), ranks.ndcg(gain, k=self.cutoff)),
                                   strict=True):
                values[name][index] = value
        return values

    def _candidates(self, tasks: TaskSet) -> np.ndarray:
        """`[T, I]` bool: not met in training or in the support."""
        candidate = ~self._met[tasks.user_row].toarray()
        task, place = np.nonzero(tasks.support_item >= 0)
        candidate[task, tasks.support_item[task, place]] = False
        # A query item is a candidate even where the data repeat a pair.
        task, place = np.nonzero(tasks.query_item >= 0)
        candidate[task, tasks.query_item[task, place]] = True
        return candidate

    def _scores(self, scorer, tasks: TaskSet) -> np.ndarray:
        shape = (len(tasks), self.num_items)
        everything = dataclasses.replace(
            tasks, query_item=np.broadcast_to(np.arange(self.num_items, dtype=np.int32), shape),
            query_label=np.full(shape, np.nan, np.float32), query_length=np.full(len(tasks), self.num_items, np.int32))
        return np.asarray(scorer.score(everything), np.float64)
