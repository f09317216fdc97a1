"""Models that also see what a warm user was trained on."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfmeta.data.interactions import Interactions
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import ConfigError
from trainer.evaluation.scorer import Scorer


class HistoryScorer:
    """Appends a user's training interactions to the support of each task, and asks a model.

    Any model that reads supports can use it, baseline or learner. In the item-cold state the user is warm: its training
    interactions are with other items than the task's, so they are as good a support as the task's own; every k then
    has them in addition to the task's first k rows. Tasks of other states are left as they are: cold users have no
    history, and in the warm state it is the support itself. Rows are labelled `uses_history`.

    Args:
      scorer: the model.
      train: training interactions.
      states: where the history is used.
      limit: training interactions used, the last ones by time; None for all.

    Raises:
      ConfigError: if the model does not read supports, or the limit is below 1.
    """

    uses_support = uses_history = True

    def __init__(self, scorer: Scorer, train: Interactions, *, states: Sequence[str] = ("item_cold",),
                 limit: int | None = 500):
        if not scorer.uses_support:
            raise ConfigError(f"A history requires a model that reads supports; '{scorer.name}' does not.")
        if limit is not None and limit < 1:
            raise ConfigError(f"A history requires a limit of at least 1 interaction, received {limit!r}.")
        self.scorer, self.states, self.limit = scorer, tuple(states), limit
        self.name, self.role = f"{scorer.name}_history", scorer.role
        self.probability, self.label_unit = scorer.probability, scorer.label_unit
        self.ks, self.selected = getattr(scorer, "ks", None), False
        self._train = train
        users, offsets = train.user_offsets()
        size = int(users.max(initial=-1)) + 2
        self._start, self._stop = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._start[users], self._stop[users] = offsets[:-1], offsets[1:]
        if limit is not None:
            self._start = np.maximum(self._start, self._stop - limit)
        if hasattr(scorer, "median"):
            self.median = lambda tasks: scorer.median(self.with_history(tasks))

    def score(self, tasks: TaskSet) -> np.ndarray:
        return self.scorer.score(self.with_history(tasks))

    def with_history(self, tasks: TaskSet) -> TaskSet:
        """Returns the tasks with longer supports: their own rows first, then the history without items among them."""
        chosen = np.isin(tasks.state, self.states)
        # The last row of the bounds stands for users without training interactions.
        user = np.minimum(tasks.user_row, len(self._start) - 1)
        start = self._start[user]
        length = np.where(chosen, self._stop[user] - start, 0)
        task = np.repeat(np.arange(len(tasks)), length)
        place = np.arange(len(task)) - np.repeat(np.cumsum(length) - length, length)
        row = start[task] + place
        item = self._train.item_row[row]
        # Pairs (task, item) as one number.
        size = int(max(self._train.item_row.max(initial=0), tasks.support_item.max(initial=0))) + 2
        own = np.arange(len(tasks))[:, None] * size + tasks.support_item
        new = ~np.isin(task * size + item, own[tasks.support_item >= 0])
        task, item, label = task[new], item[new], self._train.label[row[new]]
        count = np.bincount(task, minlength=len(tasks))
        total = tasks.support_length + count
        width = max(1, int(total.max(initial=0)))
        items, labels = np.full((len(tasks), width), -1, np.int32), np.full((len(tasks), width), np.nan, np.float32)
        real = np.arange(tasks.support_item.shape[1])[None, :] < tasks.support_length[:, None]
        kept, column = np.nonzero(real)
        items[kept, column], labels[kept, column] = tasks.support_item[real], tasks.support_label[real]
        column = tasks.support_length[task] + np.arange(len(task)) - np.repeat(np.cumsum(count) - count, count)
        items[task, column], labels[task, column] = item, label
        return dataclasses.replace(tasks, support_item=items, support_label=labels,
                                   support_length=total.astype(np.int32))
