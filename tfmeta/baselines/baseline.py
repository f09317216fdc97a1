"""The interface of everything that a learner must beat."""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import numpy as np

from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import ConfigError


@dataclasses.dataclass
class Baseline(abc.ABC):
    """A model that is fitted once on the warm interactions and adapts to a task through its support alone.

    Hyper-parameters are dataclass fields; their defaults are the ones chosen on MovieLens-1M's validation users.
    Every baseline answers for items without a training interaction, for the item row -1 (unknown) and for an
    empty support.

    Attributes:
      name: key in the registry and in every result row.
      label_unit: whether scores are predictions in the label's own unit; otherwise they only order.
      uses_support: whether scores depend on the support; if not, they are the same at every k.
      uses_history: whether scores depend on the user's own training interactions, which warm users have.
      probability: whether scores are probabilities of relevance; no baseline's are.
      made_for: units of the label that the model is made for; it answers for others too.
      by_default: whether an evaluation has the model where no list of baselines is given.
      role: `reference` in result rows.
    """

    name: ClassVar[str]
    label_unit: ClassVar[bool] = True
    uses_support: ClassVar[bool] = True
    uses_history: ClassVar[bool] = False
    probability: ClassVar[bool] = False
    made_for: ClassVar[tuple[str, ...]] = ("rating", "click", "weight")
    by_default: ClassVar[bool] = True
    role: ClassVar[str] = "reference"

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        """Returns the settings that `tune` compares, at most `tuning.BUDGET` of them."""
        return [{}]

    @abc.abstractmethod
    def fit(self, prepared: PreparedData) -> Self:
        """Fits on `prepared.train` and item or user features; returns self."""

    @abc.abstractmethod
    def score(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T, Q]` float64 scores, higher is better; entries of padding are arbitrary."""

    def _require_positive(self, *names: str, minimum: float = 0.0) -> None:
        for name in names:
            value = getattr(self, name)
            if not value >= minimum:
                raise ConfigError(f"Baseline '{self.name}' requires '{name}' of at least {minimum}, "
                                  f"received {value!r}.")
