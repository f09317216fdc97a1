"""Damped mean label of the user's own support."""

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np

from tfmeta.baselines.baseline import Baseline
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass
class UserMean(Baseline):
    """`(sum of support labels + damping * global mean) / (n + damping)` for every item; orders nothing.

    Attributes:
      damping: interactions' worth of shrinkage towards the global mean.
    """

    damping: float = 3.0

    name: ClassVar[str] = "user_mean"
    made_for: ClassVar[tuple[str, ...]] = ("rating", "click")

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"damping": d} for d in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0)]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("damping")
        train = prepared.train
        self.mean = float(train.label.mean(dtype=np.float64)) if len(train) else prepared.feature_spec.label.mean
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        real = np.arange(tasks.support_label.shape[1])[None, :] < tasks.support_length[:, None]
        total = np.where(real, tasks.support_label, 0.0).sum(axis=1, dtype=np.float64)
        weight = tasks.support_length + self.damping
        mean = (total + self.damping * self.mean) / np.where(weight > 0, weight, 1.0)
        return np.where(weight > 0, mean, self.mean)[:, None] * np.ones(tasks.query_item.shape)
