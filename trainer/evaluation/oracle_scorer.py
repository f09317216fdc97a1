"""Best achievable predictions of synthetic data."""

import numpy as np

from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import DataError


class OracleScorer:
    """Looks up predictions that were written with synthetic data; a ceiling that a model could reach.

    Args:
      tasks: the test tasks that `scores` belongs to.
      scores: `[T, Q]`.
      name: in result rows.
      ks: the ks the predictions hold for; None for all.
    """

    role = "ceiling"
    probability = False
    label_unit = True
    uses_support = False
    uses_history = False

    def __init__(self, tasks: TaskSet, scores: np.ndarray, *, name: str, ks: tuple[int | str, ...] | None = None):
        self.name, self.ks, self._scores = name, ks, scores
        keys = zip(tasks.state.tolist(), tasks.user_row.tolist(), tasks.split.tolist(), strict=True)
        self._index = {key: i for i, key in enumerate(keys)}

    @classmethod
    def from_prepared(cls, prepared: PreparedData, tasks: TaskSet) -> list["OracleScorer"]:
        """Returns the oracles of a prepared directory; none where the data are not synthetic.

        `synthetic_oracle` knows everything the generator knew but the noise; `synthetic_fold_in` knows the
        generator and the first k support rows, so it is the best that adaptation can do at that k.
        """
        scorers = []
        for column, scores in (prepared.oracle() or {}).items():
            if column == "expected":
                scorers.append(cls(tasks, scores, name="synthetic_oracle"))
            elif column.startswith("fold_in_"):
                k = column.removeprefix("fold_in_")
                scorers.append(cls(tasks, scores, name="synthetic_fold_in", ks=(k if k == "all" else int(k),)))
        return scorers

    def score(self, tasks: TaskSet) -> np.ndarray:
        keys = list(zip(tasks.state.tolist(), tasks.user_row.tolist(), tasks.split.tolist(), strict=True))
        missing = [key for key in keys if key not in self._index]
        if missing:
            raise DataError(f"'{self.name}' has no predictions for the task (state, user row, split) {missing[0]}.")
        return self._scores[[self._index[key] for key in keys], :tasks.query_item.shape[1]]
