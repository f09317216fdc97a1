"""Fresh support and query sets in every epoch, as a pure function of (seed, epoch, batch)."""

import numpy as np
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.errors import DataError

# Salts keep the streams of one (seed, epoch, batch) apart.
_KEYS, _SIZES, _WEIGHTED = 1, 2, 3


class TaskSampler:
    """Draws meta-batches of tasks from interactions held in memory.

    Batch `b` of epoch `e` depends on `(seed, e, b)` alone, so a pipeline that starts at any step continues
    one that was cut off there, in any process. Everything is TensorFlow ops: users come in the order of a
    stateless shuffle, a user's rows are gathered as `[B, L]` and sorted by stateless uniform keys, padding
    last; the first `query_size` are the query, those that follow the support, so the two are disjoint.

    For labels of unit `click` and `weight` the support keeps rows with label > 0 only, in training as in
    serving, where a client has no negatives to send; it may be empty then.

    Args:
      interactions: rows to draw from, sorted by user. One user never meets another's rows.
      config: sizes and bounds.
      label: unit of the label.
      seed: seed of every draw, 0 <= seed < 2^31.

    Raises:
      DataError: if no user has enough interactions.

    Example:
      >>> sampler = TaskSampler(prepared.train, config=TaskSamplerConfig(), label=spec.label, seed=1)
      >>> for batch in sampler.dataset(stop_step=sampler.steps_per_epoch):
      ...     batch.support_row  # [B, S] int32, padding -1
    """

    def __init__(self, interactions: Interactions, *, config: TaskSamplerConfig, label: Label, seed: int = 0):
        require(0 <= seed < 2**31, "seed", "an integer in [0, 2^31)", seed)
        self.config, self.label, self.seed = config, label, seed
        users, offsets = interactions.user_offsets()
        counts = np.diff(offsets)
        eligible = counts >= config.min_interactions
        if config.over_max == "drop" and config.max_interactions is not None:
            eligible &= counts <= config.max_interactions
        if not eligible.any():
            bound = f"at least {config.min_interactions}"
            if config.over_max == "drop" and config.max_interactions is not None:
                bound = f"{config.min_interactions} to {config.max_interactions}"
            raise DataError(
                f"Tasks require users with {bound} interactions, received {len(users)} users with "
                f"{min(counts, default=0)} to {max(counts, default=0)}. Change sampler.min_interactions, "
                "sampler.query_size or sampler.over_max, or prepare more data.")
        self.users = users[eligible]
        # Constants made outside a function are captured by the pipeline, not copied into its graph.
        with tf.init_scope(), tf.device("/CPU:0"):
            self._user = tf.constant(self.users, tf.int32)
            self._start = tf.constant(offsets[:-1][eligible], tf.int64)
            self._count = tf.constant(counts[eligible], tf.int32)
            self._item = tf.constant(interactions.item_row, tf.int32)
            self._label = tf.constant(interactions.label, tf.float32)
            weights = np.sqrt(counts[eligible].astype(np.float64))
            self._cumulative = tf.constant(np.cumsum(weights) / weights.sum(), tf.float64)

    @property
    def num_tasks(self) -> int:
        """Tasks in one epoch: the number of eligible users."""
        return len(self.users)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch, the last smaller one included."""
        return -(-self.num_tasks // self.config.meta_batch_size)

    def dataset(self, *, start_step: int = 0, stop_step: int | None = None,
                parallel_calls: int | None = None) -> tf.data.Dataset:
        """Returns the batches of steps `start_step` to `stop_step - 1`.

        Step `s` is batch `s mod n` of epoch `s // n`, with `n` the steps per epoch.

        Args:
          start_step: first step, so a resumed run needs no other state.
          stop_step: end, not included; None for an endless pipeline.
          parallel_calls: batches made at a time; None lets tf.data choose. The order is fixed either way.
        """
        steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max if stop_step is None else stop_step)
        n = self.steps_per_epoch
        return steps.map(lambda s: self._draw(s // n, s % n),
                         num_parallel_calls=parallel_calls or tf.data.AUTOTUNE,
                         deterministic=True).prefetch(tf.data.AUTOTUNE)

    def batch(self, *, epoch: int, batch: int) -> IndexedTaskBatch:
        """Returns batch `batch` of epoch `epoch`, the same one that `dataset` yields."""
        with tf.device("/CPU:0"):
            return self._draw(tf.constant(epoch, tf.int64), tf.constant(batch, tf.int64))

    def _draw(self, epoch: tf.Tensor, batch: tf.Tensor) -> IndexedTaskBatch:
        config = self.config
        epoch, batch = tf.cast(epoch, tf.int32), tf.cast(batch, tf.int32)
        row = self._task_rows(epoch, batch)  # [B] positions among the eligible users
        start, count = tf.gather(self._start, row), tf.gather(self._count, row)
        longest = tf.reduce_max(count)
        position = tf.range(longest)[None, :]  # [1, L]
        real = position < count[:, None]
        # Keys in [0, 1), padding last: the argsort is a uniform permutation of the real rows.
        keys = tf.random.stateless_uniform(tf.shape(real), self._seed(_KEYS, epoch, batch), alg="philox")
        order = tf.argsort(tf.where(real, keys, 2.0), axis=1, stable=True)
        used = count if config.max_interactions is None else tf.minimum(count, config.max_interactions)
        width = tf.reduce_max(used)
        order = order[:, :width]
        real = tf.range(width)[None, :] < used[:, None]
        index = tf.where(real, start[:, None] + tf.cast(order, tf.int64), 0)
        item = tf.where(real, tf.gather(self._item, index), -1)
        label = tf.where(real, tf.gather(self._label, index), 0.0)
        q = config.query_size
        support_item, support_label, support_length = self._support(
            item[:, q:], label[:, q:], used - q, self._seed(_SIZES, epoch, batch))
        size = tf.shape(row)[0]
        return IndexedTaskBatch(
            user_row=tf.gather(self._user, row),
            support_row=support_item, support_label=support_label, support_length=support_length,
            query_row=tf.ensure_shape(item[:, :q], [None, q]),
            query_label=tf.ensure_shape(label[:, :q], [None, q]),
            query_length=tf.fill([size], q))

    def _task_rows(self, epoch: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """Returns `[B]` int32 positions of this batch's users among the eligible ones."""
        size, total = self.config.meta_batch_size, self.num_tasks
        first = batch * size
        positions = tf.range(first, tf.minimum(first + size, total))
        if self.config.task_weighting == "sqrt":
            draw = tf.random.stateless_uniform(tf.shape(positions), self._seed(_WEIGHTED, epoch, batch),
                                               dtype=tf.float64, alg="philox")
            found = tf.searchsorted(self._cumulative, draw, side="right")
            return tf.minimum(found, total - 1)  # rounding may leave the last bound a little below 1
        seed = tf.stack([tf.constant(self.seed, tf.int32), epoch])
        return tf.random.experimental.index_shuffle(positions, seed=seed, max_index=total - 1)

    def _support(self, item, label, length, seed):
        """Applies the support rules to what the query left: `[B, S]`, `[B, S]`, `[B]`, trimmed and padded."""
        real = tf.range(tf.shape(item)[1])[None, :] < length[:, None]
        if self.label.unit in ("click", "weight"):
            keep = real & (label > 0.0)
            order = tf.argsort(tf.cast(~keep, tf.int32), axis=1, stable=True)
            item, label = (tf.gather(x, order, axis=1, batch_dims=1) for x in (item, label))
            length = tf.reduce_sum(tf.cast(keep, tf.int32), axis=1)
        if self.config.support_size is not None:
            low, high = self.config.support_size
            size = tf.random.stateless_uniform(tf.shape(length), seed, minval=low, maxval=high + 1,
                                               dtype=tf.int32, alg="philox")
            length = tf.minimum(length, size)
        # At least one column: a zero-width tensor breaks batch merges and some kernels.
        width = tf.maximum(tf.reduce_max(length), 1)
        item, label = item[:, :width], label[:, :width]
        real = tf.range(width)[None, :] < length[:, None]
        return tf.where(real, item, -1), tf.where(real, label, 0.0), length

    def _seed(self, salt: int, epoch: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        seed = tf.constant([self.seed, salt], tf.int32)
        return tf.random.fold_in(tf.random.fold_in(seed, epoch), batch)
