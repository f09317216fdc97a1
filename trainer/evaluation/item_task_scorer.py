"""Scores of a learner of side item for tasks of side user."""

import numpy as np

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.interactions import Interactions
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import RunError
from tfmeta.models.recommender import Recommender
from trainer.evaluation.recommender_scorer import RecommenderScorer

# Users that one item task is asked about; an item with more is adapted more than once.
_USERS = 64


class ItemTaskScorer:
    """Turns every (user, item) of a user's query into a question to the item: a task of side item.

    The item's support is its training interactions, the latest `support_size` of them, and none for a cold item,
    which is thus scored by what the learner generates from its content. The user is known by features, and by id
    where training had it. Neither the support of the task nor its query labels are read: item-side learners have no use
    for a new user's ratings, so a user-cold user is known by features alone, at every k.

    Args:
      recommender: trained on the item side.
      users: the prepared directory whose tasks are scored, or one with the same rows of users and items.
      items: what `recommender` was trained on: of task side item, with the training rows of `users`.
      name: in result rows.
      selected: whether this is the learner chosen on validation.
      support_size: training interactions of an item at most.
      batch_size: items adapted at once.

    Raises:
      RunError: if the two directories have other users, items or training rows: a user or item that is cold in one
        could have been trained on in the other.
    """

    role = "learner"
    uses_support = False
    uses_history = True

    def __init__(self, recommender: Recommender, *, users: PreparedData, items: PreparedData, name: str = "learner",
                 selected: bool = False, support_size: int = 100, batch_size: int = 256):
        self.name, self.selected = name, selected
        train = items.train
        _require_twins(users, items, train)
        tables = FeatureTables.from_prepared(items, feature_spec=recommender.feature_spec)
        self._scorer = RecommenderScorer(recommender, tables=tables, name=name, batch_size=batch_size)
        self.probability, self.label_unit = self._scorer.probability, self._scorer.label_unit
        self._support = _Support(train, items=len(items.users), size=support_size,
                                 positives_only=recommender.feature_spec.label.unit != "rating")

    def score(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T, Q]` float64 scores; entries of padding are 0."""
        real = np.arange(tasks.query_item.shape[1])[None, :] < tasks.query_length[:, None]
        task, place = np.nonzero(real)
        asked, row, column = self.item_tasks(item=tasks.query_item[task, place], user=tasks.user_row[task])
        scores = np.zeros(tasks.query_item.shape)
        scores[task, place] = self._scorer.score(asked)[row, column]
        return scores

    def item_tasks(self, *, item: np.ndarray, user: np.ndarray) -> tuple[TaskSet, np.ndarray, np.ndarray]:
        """Groups N questions by item.

        Args:
          item, user: `[N]` rows.

        Returns:
          the item tasks, and for each question its task `[N]` and its place in that task's query `[N]`.
        """
        order = np.argsort(item, kind="stable")
        ordered = item[order]
        first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[:len(ordered)])
        position = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        new = position % _USERS == 0
        task = np.cumsum(new) - 1
        row, column = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        row[order], column[order] = task, position % _USERS
        length = np.bincount(task, minlength=int(new.sum()))
        query = np.full((len(length), max(1, int(length.max(initial=0)))), -1, np.int32)
        query[row, column] = user
        items = ordered[new].astype(np.int32)
        rows, labels, count = self._support(items)
        return TaskSet(
            state=np.full(len(items), "warm"), user_row=items, split=np.zeros(len(items), np.int32),
            support_item=rows, support_label=labels, support_length=count, query_item=query,
            query_label=np.full(query.shape, np.nan, np.float32), query_length=length.astype(np.int32)), row, column


class _Support:
    """The latest training interactions of items, padded."""

    def __init__(self, train: Interactions, *, items: int, size: int, positives_only: bool):
        # As in training: a client has no negatives to send.
        keep = train.label > 0 if positives_only else slice(None)
        self._user, self._label = train.item_row[keep], train.label[keep]
        self._count = np.bincount(train.user_row[keep], minlength=items)
        self._end = np.cumsum(self._count)
        self._size = size

    def __call__(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Item rows `[T]` -> user rows and labels `[T, S]`, lengths `[T]`."""
        count = np.minimum(self._count[items], self._size)
        place = np.arange(max(1, int(count.max(initial=0))))[None, :]
        real = place < count[:, None]
        row = np.where(real, (self._end[items] - count)[:, None] + place, 0)
        if not len(self._user):
            return np.full(row.shape, -1, np.int32), np.full(row.shape, np.nan, np.float32), count.astype(np.int32)
        return (np.where(real, self._user[row], -1).astype(np.int32),
                np.where(real, self._label[row], np.nan).astype(np.float32), count.astype(np.int32))


def _require_twins(users: PreparedData, items: PreparedData, train: Interactions) -> None:
    problem = None
    if (users.feature_spec.task_side, items.feature_spec.task_side) != ("user", "item"):
        problem = "their task sides are to be user and item"
    elif not (np.array_equal(users.items["item_id"], items.users["user_id"])
              and np.array_equal(users.users["user_id"], items.items["item_id"])):
        problem = "they have other users or items"
    else:
        def keys(user, item):
            return np.sort(user.astype(np.int64) * len(users.items) + item)

        own = users.train
        if not np.array_equal(keys(own.user_row, own.item_row), keys(train.item_row, train.user_row)):
            problem = "their training rows differ"
    if problem is not None:
        raise RunError(f"Scoring tasks of '{users.path}' on the item side requires a learner trained on the same data "
                       f"with items as tasks, received '{items.path}': {problem}. Prepare both with the same settings, "
                       "or write one from the other (tfmeta.data.item_side).")
