"""Where training begins other than at random weights."""

from typing import Any, Protocol

from tfmeta.data.label import Label
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_sampler_config import TaskSamplerConfig


class Start(Protocol):
    """Initial weights and tasks of a training that goes on from an earlier one."""

    def describe(self) -> dict[str, Any]:
        """Returns all that decides the outcome, JSON-able: part of the run's hash."""
        ...

    def initialise(self, recommender) -> None:
        """Gives a newly built recommender its initial weights."""
        ...

    def sampler(self, prepared: PreparedData, *, config: TaskSamplerConfig, label: Label, seed: int):
        """Returns what draws the tasks, with the methods of `TaskSampler`."""
        ...
