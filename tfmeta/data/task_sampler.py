"""Fresh support and query sets in every epoch, as a pure function of (seed, epoch, batch)."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfmeta.data.eligible_users import eligible_users
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.read_ahead import read_ahead
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.data.task_draw import TaskDraw, UserRows
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.data.training_rows import TrainingRows


class TaskSampler:
    """Draws meta-batches of tasks from interactions held in memory.

    Batch `b` of epoch `e` depends on `(seed, e, b)` alone, so a pipeline that starts at any step continues
    one that was cut off there, in any process. Everything is TensorFlow ops: users come in the order of a
    stateless shuffle, a user's rows in the order of stateless uniform keys; the first `query_size` are the
    query, those that follow the support, so the two are disjoint.

    For labels of unit `click` and `weight` the support keeps rows with label > 0 only, in training as in
    serving, where a client has no negatives to send; it may be empty then.

    Args:
      interactions: rows to draw from, sorted by user, in memory or on disk (then read whole, without what
        is not drawn). One user never meets another's rows.
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

    def __init__(self, interactions: Interactions | TrainingRows, *, config: TaskSamplerConfig, label: Label,
                 seed: int = 0):
        self.config, self.label, self.seed = config, label, seed
        users, offsets = interactions.user_offsets()
        counts = np.diff(offsets)
        eligible = eligible_users(counts, config)
        self.users, counts = users[eligible], counts[eligible]
        on_disk = isinstance(interactions, TrainingRows)
        item, values = interactions.read_all() if on_disk else (interactions.item_row, interactions.label)
        self._draw = TaskDraw(config=config, label=label, seed=seed, longest=int(counts.max()),
                              item_counts=np.bincount(item) if config.negatives else None)
        # Constants made outside a function are captured by the pipeline, not copied into its graph.
        with tf.init_scope(), tf.device("/CPU:0"):
            self._rows = UserRows(
                user=tf.constant(self.users, tf.int32), start=tf.constant(offsets[:-1][eligible], tf.int64),
                count=tf.constant(counts, tf.int32), item=tf.constant(item, tf.int32),
                label=tf.constant(values, tf.float32))
            weights = np.sqrt(counts.astype(np.float64))
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
        return steps.map(lambda s: self._batch(s // n, s % n),
                         num_parallel_calls=parallel_calls or tf.data.AUTOTUNE,
                         deterministic=True).prefetch(tf.data.AUTOTUNE)

    def batches(self, *, start_step: int = 0, stop_step: int | None = None) -> Iterator[IndexedTaskBatch]:
        """Yields what `dataset` gives, fetched ahead in a thread."""
        return read_ahead(self.dataset(start_step=start_step, stop_step=stop_step))

    def batch(self, *, epoch: int, batch: int) -> IndexedTaskBatch:
        """Returns batch `batch` of epoch `epoch`, the same one that `dataset` yields."""
        with tf.device("/CPU:0"):
            return self._batch(tf.constant(epoch, tf.int64), tf.constant(batch, tf.int64))

    def _batch(self, epoch: tf.Tensor, batch: tf.Tensor) -> IndexedTaskBatch:
        epoch, batch = tf.cast(epoch, tf.int32), tf.cast(batch, tf.int32)
        user_seed, row_seed, size_seed = self._draw.seeds(epoch=epoch, batch=batch)
        index = self._users(epoch, batch, user_seed)
        return self._draw(self._rows, index, row_seed=row_seed, size_seed=size_seed)

    def _users(self, epoch: tf.Tensor, batch: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns `[B]` int32 positions of this batch's users among the eligible ones."""
        size, total = self.config.meta_batch_size, self.num_tasks
        first = batch * size
        positions = tf.range(first, tf.minimum(first + size, total))
        if self.config.task_weighting == "sqrt":
            draw = tf.random.stateless_uniform(tf.shape(positions), seed, dtype=tf.float64, alg="philox")
            found = tf.searchsorted(self._cumulative, draw, side="right")
            return tf.minimum(found, total - 1)  # rounding may leave the last bound a little below 1
        return self._draw.shuffled(positions, epoch=epoch, window=tf.constant(0), total=tf.constant(total))
