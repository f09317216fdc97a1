"""What the benchmark compares."""

import abc
import dataclasses
from typing import Any

from tfmeta.data.prepared_data import PreparedData
from trainer.benchmarking.search_space import SearchSpace
from trainer.evaluation.scorer import Scorer


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted system.

    Attributes:
      scorer: that answers for it.
      seconds: wall-clock of fitting.
      parameters: trained numbers, None where that means nothing.
      loss: (mean training loss of the first epoch, of the last), None where there is none.
    """

    scorer: Scorer
    seconds: float
    parameters: int | None = None
    loss: tuple[float, float] | None = None


class System(abc.ABC):
    """A learner or reference with its search space.

    Attributes:
      name: in files and rows.
      role: `learner` or `reference`.
      family: such as `gradient` or `closed_form`; members of the selected learner's family get all seeds.
      seeded: whether fitting depends on the seed.
      space: what is fixed and what is searched.
      states: those that it has rows in; None for all.
      selectable: whether it may be the learner that is selected on validation.
      grid: all settings, where they are few enough to be tried one by one; else None.
    """

    name: str
    role: str
    family: str
    seeded: bool
    space: SearchSpace
    states: tuple[str, ...] | None = None
    selectable: bool = True
    grid: tuple[dict[str, Any], ...] | None = None

    @abc.abstractmethod
    def check(self, prepared: PreparedData) -> None:
        """Raises ConfigError where the default settings do not fit the data."""

    @abc.abstractmethod
    def fit(self, values: dict[str, Any], *, prepared: PreparedData, seed: int, folder: str) -> Fitted:
        """Fits on the training data of `prepared`.

        Args:
          values: nested settings.
          prepared: what to fit on.
          seed: of everything random.
          folder: for files; a fit that was cut off there continues.
        """
