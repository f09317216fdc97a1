"""What can be evaluated."""

from typing import Protocol, runtime_checkable

import numpy as np

from tfmeta.data.task_set import TaskSet

ROLES = ("floor", "reference", "learner", "ceiling")


@runtime_checkable
class Scorer(Protocol):
    """Anything that scores the queries of tasks; every baseline is one, and so is `RecommenderScorer`.

    A scorer may also have `selected` (the learner chosen on validation, default False), `seeded` (whether its cells
    are of a training seed, default those of learners are), `ks` (the numbers of
    support rows it answers for, default all), a method `median(tasks) -> [T, Q]` (posterior medians in the label's
    unit, for `mae_median`) and a method `catalogue(num_items)` that prepares all items once and returns a function from
    tasks to their scores `[T, I]`.

    Attributes:
      name: in result rows.
      role: one of `ROLES`.
      probability: whether scores are probabilities of relevance.
      label_unit: whether scores are predictions in the label's own unit; otherwise they only order.
      uses_support: whether scores depend on the support; if not, one call serves every k.
      uses_history: whether scores depend on a user's own training interactions.
    """

    name: str
    role: str
    probability: bool
    label_unit: bool
    uses_support: bool
    uses_history: bool

    def score(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T, Q]` scores, higher is better; entries of padding are arbitrary. Query labels are NaN."""
        ...
