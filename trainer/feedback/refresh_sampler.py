"""Meta-batches of new tasks with old ones mixed in."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.eligible_users import eligible_users
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.read_ahead import read_ahead
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.errors import DataError

# Keeps the draws of old tasks apart from those of new ones.
_REPLAY = 1_000_003


class RefreshSampler:
    """Draws each meta-batch from two `TaskSampler`s: of users with an interaction in the window, and of all others.

    A user with an interaction since `since` is a new task, with all of their interactions; whoever has none is an old
    one. Of a meta-batch of B tasks `round(replay_share * B)` are old (at least one is new). An epoch is one pass over
    the new tasks; the old ones go through passes of their own. A batch is a pure function of (seed, epoch, batch), as
    in `TaskSampler`, so a run that was cut off goes on with the same bits.

    Args:
      interactions: `[N]` training rows sorted by user.
      config: sizes and bounds; `meta_batch_size` is that of both kinds together.
      label: unit of the label.
      since: start of the window in unix seconds.
      replay_share: share of old tasks.
      seed: of every draw.

    Attributes:
      new_tasks, old_tasks: users of either kind.

    Raises:
      DataError: if no user of the window has enough interactions.
    """

    def __init__(self, interactions: Interactions, *, config: TaskSamplerConfig, label: Label, since: int,
                 replay_share: float, seed: int = 0):
        require(0 <= replay_share < 1, "replay_share", "a share in [0, 1)", replay_share)
        self.config, self.label, self.seed = config, label, seed
        new = active_rows(interactions, since=since)
        size = config.meta_batch_size
        old = min(round(replay_share * size), size - 1) if _enough(interactions, ~new, config) else 0
        self._new = TaskSampler(
            _select(interactions, new), config=dataclasses.replace(config, meta_batch_size=size - old), label=label,
            seed=seed)
        self._old = None if not old else TaskSampler(
            _select(interactions, ~new), config=dataclasses.replace(config, meta_batch_size=old), label=label,
            seed=(seed + _REPLAY) % 2**31)
        self.new_tasks = self._new.num_tasks
        self.old_tasks = 0 if self._old is None else self._old.num_tasks
        self._old_size = old

    @property
    def num_tasks(self) -> int:
        """Tasks in one epoch."""
        return self.new_tasks + self._old_size * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        return self._new.steps_per_epoch

    def dataset(self, *, start_step: int = 0, stop_step: int | None = None) -> tf.data.Dataset:
        """Returns the batches of steps `start_step` to `stop_step - 1`."""
        steps = {"start_step": start_step, "stop_step": stop_step}
        if self._old is None:
            return self._new.dataset(**steps)
        return tf.data.Dataset.zip(self._new.dataset(**steps), self._old.dataset(**steps)).map(_join)

    def batches(self, *, start_step: int = 0, stop_step: int | None = None) -> Iterator[IndexedTaskBatch]:
        """Yields what `dataset` gives, fetched ahead in a thread."""
        return read_ahead(self.dataset(start_step=start_step, stop_step=stop_step))

    def batch(self, *, epoch: int, batch: int) -> IndexedTaskBatch:
        """Returns batch `batch` of epoch `epoch`, the same one that `dataset` yields."""
        new = self._new.batch(epoch=epoch, batch=batch)
        if self._old is None:
            return new
        pass_, place = divmod(epoch * self.steps_per_epoch + batch, self._old.steps_per_epoch)
        return _join(new, self._old.batch(epoch=pass_, batch=place))


def active_rows(interactions: Interactions, *, since: int) -> np.ndarray:
    """Returns `[N]` bool: the rows of users who have an interaction at `since` or later."""
    width = int(interactions.user_row.max(initial=-1)) + 1
    active = np.zeros(width, bool)
    active[interactions.user_row[interactions.time >= since]] = True
    return active[interactions.user_row]


def _enough(interactions: Interactions, mask: np.ndarray, config: TaskSamplerConfig) -> bool:
    try:
        return bool(eligible_users(np.bincount(interactions.user_row[mask]), config).any())
    except DataError:
        return False


def _select(interactions: Interactions, mask: np.ndarray) -> Interactions:
    return Interactions(**{f.name: getattr(interactions, f.name)[mask] for f in dataclasses.fields(Interactions)})


def _join(first: IndexedTaskBatch, second: IndexedTaskBatch) -> IndexedTaskBatch:
    """Stacks two batches, supports padded to the wider one."""
    width = tf.maximum(tf.shape(first.support_row)[1], tf.shape(second.support_row)[1])
    fill = {"support_row": -1, "support_label": 0.0}

    def widen(name, value):
        if name not in fill:
            return value
        return tf.pad(value, [[0, 0], [0, width - tf.shape(value)[1]]], constant_values=fill[name])

    return IndexedTaskBatch(**{
        name: tf.concat([widen(name, getattr(first, name)), widen(name, getattr(second, name))], axis=0)
        for name in IndexedTaskBatch._fields})
