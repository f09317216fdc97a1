"""Task sampling from interactions on disk that do not fit memory."""

import concurrent.futures
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.eligible_users import eligible_users
from tfmeta.data.epoch_windows import EpochWindows, Window
from tfmeta.data.label import Label
from tfmeta.data.read_ahead import read_ahead
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.data.task_draw import TaskDraw, UserRows
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.data.training_rows import TrainingRows

_SPEC = (UserRows(user=tf.TensorSpec([None], tf.int32), start=tf.TensorSpec([None], tf.int64),
                  count=tf.TensorSpec([None], tf.int32), item=tf.TensorSpec([None], tf.int32),
                  label=tf.TensorSpec([None], tf.float32)),
         tf.TensorSpec([None], tf.int32), tf.TensorSpec([5], tf.int64))


class StreamingTaskSampler:
    """Draws the same kind of meta-batches as `TaskSampler`, holding a bounded number of interactions.

    An epoch goes through windows of users (`EpochWindows`): while batches are drawn from one, a thread reads the
    next, so `config.max_rows_in_memory` rows are two windows. Every eligible user is one task an epoch, in random
    order within a window; a batch depends on (seed, epoch, batch) alone, whatever the pipeline did before. Per
    user, 20 bytes stay in memory, and per epoch its order.

    Differences from `TaskSampler` on the same data: users share a batch only with users of their window, and with
    `task_weighting: sqrt` an epoch's tasks are drawn at its beginning. Where all rows fit one window and the
    weighting is uniform, the batches are the same to the bit.

    Args:
      rows: to draw from.
      config: sizes and bounds; `max_rows_in_memory` must be set.
      label: unit of the label.
      seed: seed of every draw, 0 <= seed < 2^31.

    Raises:
      DataError: if no user has enough interactions.
      ConfigError: if `max_rows_in_memory` is too small for a meta-batch.
    """

    def __init__(self, rows: TrainingRows, *, config: TaskSamplerConfig, label: Label, seed: int = 0):
        require(config.max_rows_in_memory is not None, "sampler.max_rows_in_memory", "a number of rows",
                config.max_rows_in_memory)
        self.config, self.label, self.seed = config, label, seed
        users, offsets = rows.user_offsets()
        counts = np.diff(offsets)
        eligible = eligible_users(counts, config)
        self.users, self._start, self._count = users[eligible], offsets[:-1][eligible], counts[eligible]
        self._source = rows
        self._draw = TaskDraw(config=config, label=label, seed=seed, longest=int(self._count.max()),
                              item_counts=rows.item_counts() if config.negatives else None)
        # A shard is the users whose rows begin in one row group.
        begins = np.searchsorted(self._start, rows.group_start)
        self._plan = EpochWindows(self._count, shard_start=np.unique(begins), config=config, seed=seed,
                                  max_rows=config.max_rows_in_memory // 2)

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
        """Returns the batches of steps `start_step` to `stop_step - 1`; see `TaskSampler.dataset`."""
        windows = tf.data.Dataset.from_generator(lambda: self._windows(start_step, stop_step),
                                                 output_signature=_SPEC)

        def batches(rows, task_user, place):
            steps = tf.data.Dataset.range(place[3], place[4])
            return steps.map(lambda b: self._batch(rows, task_user, place, b),
                             num_parallel_calls=parallel_calls or tf.data.AUTOTUNE, deterministic=True)

        return windows.flat_map(batches).prefetch(tf.data.AUTOTUNE)

    def batches(self, *, start_step: int = 0, stop_step: int | None = None) -> Iterator[IndexedTaskBatch]:
        """Yields what `dataset` gives, fetched ahead in a thread.

        Where TensorFlow's op determinism is on, tf.data does nothing ahead in a pipeline that calls Python, though
        this one calls it only to read windows and is deterministic by itself.
        """
        return read_ahead(self.dataset(start_step=start_step, stop_step=stop_step))

    def batch(self, *, epoch: int, batch: int) -> IndexedTaskBatch:
        """Returns batch `batch` of epoch `epoch`, the same one that `dataset` yields; reads its window."""
        step = epoch * self.steps_per_epoch + batch
        with tf.device("/CPU:0"):
            rows, task_user, place = next(self._windows(step, step + 1))
            rows = UserRows(*(tf.convert_to_tensor(part) for part in rows))
            return self._batch(rows, tf.constant(task_user), tf.constant(place), place[3])

    def _windows(self, start_step: int, stop_step: int | None) -> Iterator[tuple]:
        """Yields windows as in `_SPEC`, one read ahead; place = epoch, window, first task, first and stop batch."""
        thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="window")
        try:
            with self._source.reader() as reader:
                following = None
                for epoch, window, first, stop in self._visits(start_step, stop_step):
                    place = np.array([epoch, window.number, window.first, first, stop], np.int64)
                    task_user = np.zeros(0, np.int32) if window.task_user is None else window.task_user
                    read = thread.submit(self._read, reader, window)
                    if following is not None:
                        yield _taken(following)
                    following = [read, task_user, place]
                if following is not None:
                    yield _taken(following)
        finally:
            thread.shutdown(wait=True, cancel_futures=True)

    def _visits(self, start_step: int, stop_step: int | None) -> Iterator[tuple[int, Window, int, int]]:
        """Yields (epoch, window, first batch, stop batch) of all that the steps touch."""
        size, n = self.config.meta_batch_size, self.steps_per_epoch
        epoch = start_step // n
        while stop_step is None or epoch * n < stop_step:
            for window in self._plan.windows(epoch):
                first = max(window.first // size, start_step - epoch * n)
                stop = -(-window.stop // size)
                if stop_step is not None:
                    stop = min(stop, stop_step - epoch * n)
                if first < stop:
                    yield epoch, window, first, stop
            epoch += 1

    def _read(self, reader, window: Window) -> UserRows:
        """Reads a window's rows into two arrays, segment by segment."""
        users = np.concatenate([np.arange(*segment) for segment in window.segments])
        count = self._count[users]
        start = np.cumsum(count) - count
        item, label = np.empty(count.sum(), np.int32), np.empty(count.sum(), np.float32)
        at = 0
        for low, high in window.segments:
            first, begin, length = self._start[low], self._start[low:high], self._count[low:high]
            total = int(length.sum())
            parts = reader.read(int(first), int(begin[-1] + length[-1]))
            if len(parts[0]) > total:  # leave out users between that are no tasks
                keep = np.repeat(begin - first - (np.cumsum(length) - length), length) + np.arange(total)
                parts = [part[keep] for part in parts]
            item[at:at + total], label[at:at + total] = parts
            at += total
        return UserRows(user=self.users[users], start=start, count=count.astype(np.int32), item=item, label=label)

    def _batch(self, rows: UserRows, task_user: tf.Tensor, place: tf.Tensor, batch: tf.Tensor) -> IndexedTaskBatch:
        epoch, window = tf.cast(place[0], tf.int32), tf.cast(place[1], tf.int32)
        first, size = tf.cast(place[2], tf.int32), self.config.meta_batch_size
        batch = tf.cast(batch, tf.int32)
        _, row_seed, size_seed = self._draw.seeds(epoch=epoch, batch=batch)
        weighted = self.config.task_weighting == "sqrt"
        total = tf.size(task_user if weighted else rows.user)
        begin = batch * size - first
        index = self._draw.shuffled(tf.range(begin, tf.minimum(begin + size, total)), epoch=epoch, window=window,
                                    total=total)
        if weighted:
            index = tf.gather(task_user, index)
        return self._draw(rows, index, row_seed=row_seed, size_seed=size_seed)


def _taken(following: list) -> tuple:
    """Returns what is in the list once read, and empties it, so that nothing here keeps the window alive."""
    read, task_user, place = following
    following.clear()
    return read.result(), task_user, place
