"""Item bias plus the user's bias from the support."""

import dataclasses
import itertools
from typing import Any, ClassVar, Self

import numpy as np

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.biases import Biases
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass
class DampedBias(Baseline):
    """Overall level, the item's bias and the user's bias, both damped.

        score(u, i) = mean + b_i + b_u,   b_i = sum_u (y_ui - mean - b_u) / (n_i + item_damping),
        b_u = sum_i (y_ui - mean - b_i) / (n_u + user_damping),   b_u of a task's user over the support alone

    Source: Koren, "Factorization meets the neighborhood", KDD 2008, section 2.1; the two are alternated (see `Biases`).
    Adapts the level of the predictions, not their order, so its ranking metrics are the same at every k.

    Attributes:
      item_damping: interactions' worth of shrinkage of an item's bias towards 0.
      user_damping: the same for users.
    """

    item_damping: float = 5.0
    user_damping: float = 4.0

    name: ClassVar[str] = "damped_bias"
    made_for: ClassVar[tuple[str, ...]] = ("rating", "click")

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"item_damping": i, "user_damping": u}
                for i, u in itertools.product((2.0, 5.0, 10.0), (2.0, 4.0, 6.0, 10.0))]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("item_damping", "user_damping")
        self.biases = Biases.fit(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items),
                                 item_damping=self.item_damping, user_damping=self.user_damping)
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        return (self.biases.mean + self.biases.item_bias[tasks.query_item]
                + self.biases.fold_in(tasks)[:, None])
