"""How often an item was met in training."""

import dataclasses
from typing import ClassVar, Self

import numpy as np

from tfmeta.baselines.baseline import Baseline
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass
class Popularity(Baseline):
    """Orders items by their number of training interactions; the same for everybody, no unit of the label."""

    name: ClassVar[str] = "popularity"
    label_unit: ClassVar[bool] = False
    uses_support: ClassVar[bool] = False

    def fit(self, prepared: PreparedData) -> Self:
        self.count = np.bincount(prepared.train.item_row, minlength=len(prepared.items) + 1).astype(np.float64)
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        return self.count[tasks.query_item]
