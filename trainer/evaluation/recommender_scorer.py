"""Scores of a recommender for fixed tasks."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.task_set import TaskSet
from tfmeta.models.recommender import Recommender

# Items encoded at once, and tasks whose items are encoded together.
_ITEMS, _TASKS = 8192, 16384


class RecommenderScorer:
    """Adapts a recommender to each task's support and scores its query, by the code that training and export use.

    The present weights are used at every call. Shapes are dynamic in the graph, so one trace serves all widths.

    Args:
      recommender: the model.
      tables: features of the rows that tasks refer to.
      name: in result rows.
      selected: whether this is the learner chosen on validation.
      batch_size: tasks adapted at once.

    Attributes:
      probability: whether scores are probabilities of relevance (clicks, with a calibrated outer loss).
      label_unit: whether scores are predictions in the label's own unit (ratings and probabilities).
    """

    role = "learner"
    uses_support = True
    uses_history = False

    def __init__(self, recommender: Recommender, *, tables: FeatureTables, name: str = "learner",
                 selected: bool = False, batch_size: int = 256):
        self.name, self.selected, self.batch_size = name, selected, batch_size
        self.recommender, self.tables = recommender, tables
        unit = recommender.learner.score_unit
        self.probability, self.label_unit = unit == "probability", unit != "preference"
        rows, labels = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.float32)
        vector = tf.TensorSpec([None], tf.int32)
        self._encode = tf.function(self._encode_items, input_signature=[vector], autograph=False)
        self._score = None
        if recommender.learner.has_median:
            self.median = self._median
        self._signature = [vector, rows, labels, vector, rows]

    def score(self, tasks: TaskSet) -> np.ndarray:
        """Returns the adapted scores `[T, Q]` float64; entries of padding are arbitrary."""
        return self.score_both(tasks)[0]

    def score_both(self, tasks: TaskSet) -> tuple[np.ndarray, np.ndarray]:
        """Returns (adapted scores, unadapted scores), both `[T, Q]` float64; query labels are not read."""
        adapted, base, _ = self._all(tasks)
        return adapted, base

    def _median(self, tasks: TaskSet) -> np.ndarray:
        """Returns the adapted medians `[T, Q]` float64."""
        return self._all(tasks)[2]

    def _all(self, tasks: TaskSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns adapted scores, unadapted scores and, of learners that have them, adapted medians."""
        results = tuple(np.zeros(tasks.query_item.shape) for _ in range(3))
        for start in range(0, len(tasks), _TASKS):
            chosen = np.arange(start, min(start + _TASKS, len(tasks)))
            part = tasks.select(chosen)
            rows, index = np.unique(np.concatenate([part.support_item.ravel(), part.query_item.ravel()]),
                                    return_inverse=True)
            encoded = self._encode_all(rows.astype(np.int32))
            support, query = np.split(index.astype(np.int32), [part.support_item.size])
            values = self._in_batches(part, support.reshape(part.support_item.shape),
                                      query.reshape(part.query_item.shape), encoded)
            for target, value in zip(results, values, strict=False):
                target[chosen] = value
        return results

    def catalogue(self, num_items: int) -> Callable[[TaskSet], np.ndarray]:
        """Returns what gives tasks their adapted scores of all items `[T, I]` float64; items are encoded once, now."""
        # The last row is the item without content, which padding points to.
        encoded = self._encode_all(np.append(np.arange(num_items, dtype=np.int32), np.int32(-1)))

        def score(tasks: TaskSet) -> np.ndarray:
            support = np.where(tasks.support_item < 0, num_items, tasks.support_item).astype(np.int32)
            query = np.broadcast_to(np.arange(num_items, dtype=np.int32), (len(tasks), num_items))
            return self._in_batches(tasks, support, query, encoded)[0]
        return score

    def _in_batches(self, tasks: TaskSet, support: np.ndarray, query: np.ndarray,
                    encoded: tf.Tensor) -> list[np.ndarray]:
        """Returns what `_adapt_and_score_batch` does, each `[T, Q]` float64, for rows of `encoded`."""
        label = np.nan_to_num(tasks.support_label, nan=0.0)
        order = np.argsort(tasks.support_length, kind="stable")
        results: list[np.ndarray] = []
        for first in range(0, len(order), self.batch_size):
            batch = order[first:first + self.batch_size]
            width = max(1, int(tasks.support_length[batch].max()))
            values = self._adapt_and_score(encoded)(
                tasks.user_row[batch], support[batch, :width], label[batch, :width], tasks.support_length[batch],
                query[batch], encoded)
            results = results or [np.zeros(query.shape) for _ in values]
            for target, value in zip(results, values, strict=True):
                target[batch] = value.numpy()
        return results

    def _encode_items(self, rows: tf.Tensor) -> tf.Tensor:
        return self.recommender.encode_item(self.tables.item(rows))

    def _encode_all(self, rows: np.ndarray) -> tf.Tensor:
        """Encodes item rows in chunks: `[N]` -> `[N, Di]`."""
        return tf.concat([self._encode(rows[i:i + _ITEMS]) for i in range(0, len(rows), _ITEMS)], axis=0)

    def _adapt_and_score(self, encoded: tf.Tensor) -> tf.types.experimental.GenericFunction:
        if self._score is None:
            table = tf.TensorSpec([None, encoded.shape[-1]], encoded.dtype)
            self._score = tf.function(self._adapt_and_score_batch, input_signature=[*self._signature, table],
                                      autograph=False)
        return self._score

    def _adapt_and_score_batch(self, user_row, support, label, length, query, encoded):
        user = self.recommender.encode_user(self.tables.user(user_row), tasks=tf.shape(user_row)[0])
        task = dict(support_item=tf.gather(encoded, support), support_label=label, support_length=length,
                    query_item=tf.gather(encoded, query))
        scores = self.recommender.adapt_and_score(user, **task)
        if not self.recommender.learner.has_median:
            return scores
        return *scores, self.recommender.adapt_and_median(user, **task)
