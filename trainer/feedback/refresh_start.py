"""Training that goes on from an earlier run."""

import dataclasses
from typing import Any

from tfmeta.data.label import Label
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from trainer.feedback.refresh_sampler import RefreshSampler
from trainer.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class RefreshStart:
    """The weights of the last run, and new tasks with old ones mixed in; a `trainer.start.Start`.

    Attributes:
      run: the last run.
      since: start of the window in unix seconds.
      replay_share: share of old tasks, see `RefreshSampler`.
    """

    run: RunDirectory
    since: int
    replay_share: float

    def describe(self) -> dict[str, Any]:
        """Returns what decides the outcome: the run's hash, not its place."""
        return {"run": self.run.summary["hash"], "since": self.since, "replay_share": self.replay_share}

    def initialise(self, recommender) -> None:
        """Assigns the run's weights, see `take_over`."""
        from trainer.feedback.refresh_weights import take_over

        take_over(recommender, before=self.run.recommender())

    def sampler(self, prepared: PreparedData, *, config: TaskSamplerConfig, label: Label, seed: int) -> RefreshSampler:
        """Returns the sampler of new and old tasks."""
        return RefreshSampler(prepared.train, config=config, label=label, since=self.since,
                              replay_share=self.replay_share, seed=seed)
