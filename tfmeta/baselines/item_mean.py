"""Damped mean label of each item."""

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.biases import Biases
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass
class ItemMean(Baseline):
    """`(sum of labels + damping * global mean) / (n + damping)`; the same for everybody.

    Attributes:
      damping: interactions' worth of shrinkage towards the global mean.
    """

    damping: float = 2.0

    name: ClassVar[str] = "item_mean"
    made_for: ClassVar[tuple[str, ...]] = ("rating", "click")
    uses_support: ClassVar[bool] = False

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"damping": d} for d in (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("damping")
        biases = Biases.fit(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items),
                            item_damping=self.damping, user_damping=0.0, sweeps=1)
        self.table = biases.mean + biases.item_bias
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        return self.table[tasks.query_item]
