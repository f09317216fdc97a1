"""Scores that know nothing."""

import dataclasses
from typing import ClassVar, Self

import numpy as np

from tfmeta.baselines.baseline import Baseline
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass
class RandomScores(Baseline):
    """Uniform scores over the label's range: one draw of what the floor is the expectation of.

    Attributes:
      seed: of the draw.
    """

    seed: int = 0

    name: ClassVar[str] = "random"
    uses_support: ClassVar[bool] = False

    def fit(self, prepared: PreparedData) -> Self:
        label = prepared.feature_spec.label
        self.range = (label.minimum, label.maximum)
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        return np.random.default_rng([self.seed, 7]).uniform(*self.range, tasks.query_item.shape)
