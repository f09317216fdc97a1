"""One meta-batch of tasks from interactions in tensors: the part that all samplers share."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.label import Label
from tfmeta.data.random_order import random_order
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.data.task_sampler_config import TaskSamplerConfig

# Salts: of the users' order within windows after an epoch's first one, and of the negatives.
_WINDOW, _NEGATIVES = 5, 6
# Exponent of an item's count in popularity sampling.
_POPULARITY_POWER = 0.75


class UserRows(NamedTuple):
    """Interactions of U users; those of user u are `start[u]` to `start[u] + count[u] - 1` of the R rows."""

    user: tf.Tensor  # [U] int32, user row
    start: tf.Tensor  # [U] int64
    count: tf.Tensor  # [U] int32
    item: tf.Tensor  # [R] int32, item row
    label: tf.Tensor  # [R] float32


class TaskDraw:
    """Draws support and query of given users as TensorFlow ops, a pure function of (seed, epoch, batch).

    The first `query_size` of a random order of a user's rows are the query, those that follow the support, so
    the two are disjoint. For labels of unit `click` and `weight` the support keeps rows with label > 0 only, and
    `negatives` more items with label 0, which the user has not met, follow in the query.

    Args:
      config: sizes and bounds.
      label: unit of the label.
      seed: 0 <= seed < 2^31.
      longest: the largest number of interactions of a user.
      item_counts: `[I]` training interactions of each item row; needed for negatives, which are drawn from items that
        have some.

    Raises:
      ConfigError: if negatives are asked for where labels are ratings.
    """

    def __init__(self, *, config: TaskSamplerConfig, label: Label, seed: int, longest: int,
                 item_counts: np.ndarray | None = None):
        require(0 <= seed < 2**31, "seed", "an integer in [0, 2^31)", seed)
        require(not config.negatives or label.unit != "rating", "sampler.negatives",
                "0 where labels are ratings, because negatives are for implicit feedback", config.negatives)
        self._pool = None
        if config.negatives:
            pool = np.flatnonzero(item_counts)
            mass = item_counts[pool].astype(np.float64) ** (
                _POPULARITY_POWER if config.negative_sampling == "popularity" else 0.0)
            with tf.init_scope(), tf.device("/CPU:0"):
                self._pool = tf.constant(pool, tf.int32), tf.constant(np.cumsum(mass) / mass.sum(), tf.float64)
        self._config, self._seed, self._longest = config, seed, longest
        self._positives = label.unit in ("click", "weight")
        # Rows of one user that a task can need at most.
        bounds = [b for b in (config.max_interactions,) if b is not None]
        if config.support_size is not None and not self._positives:
            bounds.append(config.query_size + max(1, config.support_size[1]))
        self._need = min(bounds, default=None)

    def shuffled(self, position: tf.Tensor, *, epoch: tf.Tensor, window: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        """Returns the tasks in places `position [B]` int32 of a random order of `total` tasks."""
        seed = tf.stack([tf.constant(self._seed, tf.int32), epoch])
        other = tf.random.fold_in(tf.random.fold_in(seed, _WINDOW), window)
        seed = tf.where(window == 0, seed, other)
        return tf.random.experimental.index_shuffle(position, seed=seed, max_index=total - 1)

    def seeds(self, *, epoch: tf.Tensor, batch: tf.Tensor) -> list[tf.Tensor]:
        """Returns three independent seeds `[2]` int32 of a batch: of its users, their rows and support sizes."""
        seed = tf.constant([self._seed, 1], tf.int32)
        return tf.unstack(tf.random.split(tf.random.fold_in(tf.random.fold_in(seed, epoch), batch), 3))

    def __call__(self, rows: UserRows, index: tf.Tensor, *, row_seed: tf.Tensor,
                 size_seed: tf.Tensor) -> IndexedTaskBatch:
        """Draws tasks.

        Args:
          rows: to draw from.
          index: `[B]` int32, which of their U users.
          row_seed, size_seed: the second and third of `seeds`.
        """
        config, q = self._config, self._config.query_size
        start, count = tf.gather(rows.start, index), tf.gather(rows.count, index)
        used = count if config.max_interactions is None else tf.minimum(count, config.max_interactions)
        order = random_order(count, need=self._need, longest=self._longest, seed=row_seed)
        real = tf.range(tf.shape(order)[1])[None, :] < used[:, None]
        place = tf.where(real, start[:, None] + tf.cast(order, tf.int64), 0)
        item = tf.where(real, tf.gather(rows.item, place), -1)
        label = tf.where(real, tf.gather(rows.label, place), 0.0)
        support_item, support_label, support_length = self._support(item[:, q:], label[:, q:], used - q, size_seed)
        query_item, query_label = item[:, :q], label[:, :q]
        query_length = tf.fill([tf.size(index)], q)
        if self._pool is not None:
            negative, number = self._negatives(rows, start, count, row_seed)
            query_item = tf.concat([query_item, negative], axis=1)
            query_label = tf.pad(query_label, [[0, 0], [0, config.negatives]])
            query_length += number
        width = q + config.negatives
        return IndexedTaskBatch(
            user_row=tf.gather(rows.user, index),
            support_row=support_item, support_label=support_label, support_length=support_length,
            query_row=tf.ensure_shape(query_item, [None, width]),
            query_label=tf.ensure_shape(query_label, [None, width]), query_length=query_length)

    def _negatives(self, rows: UserRows, start: tf.Tensor, count: tf.Tensor,
                   seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (items that the users have not met `[B, negatives]`, padded with -1; their number `[B]`)."""
        items, cumulative = self._pool
        shape = [tf.size(count), self._config.negatives]
        draw = tf.random.stateless_uniform(shape, tf.random.fold_in(seed, _NEGATIVES), dtype=tf.float64, alg="philox")
        place = tf.searchsorted(cumulative, tf.reshape(draw, [-1]), side="right")
        drawn = tf.reshape(tf.gather(items, tf.minimum(place, tf.size(items) - 1)), shape)
        # All that a user has met, whether this task uses it or not.
        offset = tf.range(tf.reduce_max(count))[None, :]
        real = offset < count[:, None]
        met = tf.gather(rows.item, tf.where(real, start[:, None] + tf.cast(offset, tf.int64), 0))
        met = tf.where(real, met, -1)
        fresh = ~tf.reduce_any(drawn[:, :, None] == met[:, None, :], axis=2)
        order = tf.argsort(tf.cast(~fresh, tf.int32), axis=1, stable=True)
        kept = tf.gather(tf.where(fresh, drawn, -1), order, axis=1, batch_dims=1)
        return kept, tf.reduce_sum(tf.cast(fresh, tf.int32), axis=1)

    def _size(self, shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Draws support sizes."""
        low, high = self._config.support_size
        size = tf.random.stateless_uniform(shape, seed, minval=low, maxval=high + 1, dtype=tf.int32, alg="philox")
        if self._config.support_size_law == "uniform":
            return size
        coin, place = tf.unstack(tf.random.stateless_uniform(
            tf.concat([[2], shape], axis=0), tf.random.fold_in(seed, 1), dtype=tf.float64, alg="philox"))
        # The floor of 1 + size, uniform in its logarithm between 1 + low and 2 + high.
        small = tf.cast(tf.floor((1 + low) * ((2 + high) / (1 + low)) ** place), tf.int32) - 1
        return tf.where(coin < 0.5, size, tf.clip_by_value(small, low, high))

    def _support(self, item, label, length, seed):
        """Applies the support rules to what the query left: `[B, S]`, `[B, S]`, `[B]`, trimmed and padded."""
        if self._positives:
            keep = (tf.range(tf.shape(item)[1])[None, :] < length[:, None]) & (label > 0.0)
            order = tf.argsort(tf.cast(~keep, tf.int32), axis=1, stable=True)
            item, label = (tf.gather(x, order, axis=1, batch_dims=1) for x in (item, label))
            length = tf.reduce_sum(tf.cast(keep, tf.int32), axis=1)
        if self._config.support_size is not None:
            length = tf.minimum(length, self._size(tf.shape(length), seed))
        # At least one column: a zero-width tensor breaks batch merges and some kernels.
        width = tf.maximum(tf.reduce_max(length), 1)
        item, label = item[:, :width], label[:, :width]
        real = tf.range(width)[None, :] < length[:, None]
        return tf.where(real, item, -1), tf.where(real, label, 0.0), length
