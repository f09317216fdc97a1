"""Which interactions a streaming epoch holds in memory, and when."""

import dataclasses

import numpy as np

from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.errors import ConfigError

_SHARDS, _WEIGHTED = 11, 12


@dataclasses.dataclass(frozen=True)
class Window:
    """Consecutive batches of an epoch, drawn from the same users.

    Attributes:
      number: of the window within its epoch, from 0.
      first, stop: tasks of the epoch that it has, from `first` to `stop - 1`; `first` begins a batch.
      segments: `(first, stop)` ranges of eligible users that lie together on disk, each within one shard.
      task_user: `[stop - first]` int32, which of the window's users each task is of; None where each user is one
        task.
    """

    number: int
    first: int
    stop: int
    segments: tuple[tuple[int, int], ...]
    task_user: np.ndarray | None


class EpochWindows:
    """Cuts epochs into windows, as a pure function of (seed, epoch).

    An epoch visits the shards in a random order and takes each shard's users in their order on disk; windows are
    cut from that sequence at whole batches, as long as the rows allow. Which users share a window so differs from
    epoch to epoch, and no user is left out or met twice. Where all fits one window, shards keep their order.

    With `task_weighting: sqrt` the numbers of tasks per user in an epoch are drawn first (multinomial, the joint
    distribution of as many draws with replacement) and tasks take the place of users.

    Args:
      counts: `[U]` rows of each eligible user.
      shard_start: `[K + 1]` first eligible user of each shard, and U.
      config: sizes and bounds.
      max_rows: rows that one window may have.
      seed: of the order.

    Raises:
      ConfigError: if a batch of the users with most rows would not fit.
    """

    def __init__(self, counts: np.ndarray, *, shard_start: np.ndarray, config: TaskSamplerConfig, max_rows: int,
                 seed: int):
        self._counts, self._shard_start, self._config = counts.astype(np.int64), shard_start, config
        self._max_rows, self._seed = max_rows, seed
        size = min(config.meta_batch_size, len(counts))
        largest = int(np.partition(self._counts, len(counts) - size)[-size:].sum())
        if largest > max_rows:
            raise ConfigError(
                f"'sampler.max_rows_in_memory' requires at least {2 * largest} with these data, received "
                f"{config.max_rows_in_memory}: two windows are in memory, and each has to hold a meta-batch of the "
                f"{size} users with most interactions. Raise it or lower sampler.meta_batch_size.")
        self.one = int(self._counts.sum()) <= max_rows

    def windows(self, epoch: int) -> list[Window]:
        """Returns the windows of an epoch, in order."""
        users, tasks = self._order(epoch)
        place = np.arange(len(users)) if tasks is None else tasks  # [T] place in `users` of each task
        end_row = np.append(0, np.cumsum(self._counts[users]))
        size, total, found, first = self._config.meta_batch_size, len(place), [], 0
        while first < total:
            bound = end_row[place[first]] + self._max_rows
            stop = int(np.searchsorted(place, np.searchsorted(end_row, bound, side="right") - 1))
            stop = total if stop >= total else first + (stop - first) // size * size
            found.append(self._window(len(found), first, stop, users, None if tasks is None else tasks[first:stop]))
            first = stop
        return found

    def _window(self, number: int, first: int, stop: int, users: np.ndarray, tasks: np.ndarray | None) -> Window:
        low, high = (first, stop) if tasks is None else (tasks[0], tasks[-1] + 1)
        chosen = users[low:high]
        shard = np.searchsorted(self._shard_start, chosen, side="right")
        cut = np.flatnonzero((np.diff(chosen) != 1) | (np.diff(shard) != 0)) + 1
        segments = tuple((int(s[0]), int(s[-1]) + 1) for s in np.split(chosen, cut))
        return Window(number=number, first=first, stop=stop, segments=segments,
                      task_user=None if tasks is None else (tasks - low).astype(np.int32))

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the epoch's users, shard after shard, and the place among them of each task or None."""
        users = np.arange(len(self._counts))
        if not self.one:
            order = np.random.default_rng([self._seed, _SHARDS, epoch]).permutation(len(self._shard_start) - 1)
            start, length = self._shard_start[order], np.diff(self._shard_start)[order]
            users += np.repeat(start - (np.cumsum(length) - length), length)
        if self._config.task_weighting != "sqrt":
            return users, None
        weights = np.sqrt(self._counts)
        rng = np.random.default_rng([self._seed, _WEIGHTED, epoch])
        number = rng.multinomial(len(users), weights / weights.sum())[users]
        drawn = number > 0
        return users[drawn], np.repeat(np.arange(drawn.sum()), number[drawn])
