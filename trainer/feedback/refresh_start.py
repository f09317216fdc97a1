"""Training that goes on from an earlier run."""

import dataclasses
from typing import Any

from tfmeta.data.label import Label
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from trainer.config import TrainConfig
from trainer.feedback.refresh_sampler import RefreshSampler
from trainer.run_directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class RefreshStart:
    """The weights of the last run, and new tasks with old ones mixed in; a `trainer.start.Start`.

    Attributes:
      run: the last run.
      since: start of the window in unix seconds.
      replay_share: share of old tasks, see `RefreshSampler`.
      learning_rate_factor: learning rate relative to that of the first run, which all refreshes go back to.
    """

    run: RunDirectory
    since: int
    replay_share: float
    learning_rate_factor: float = 1.0

    def describe(self) -> dict[str, Any]:
        """Returns what decides the outcome: the run's hash, not its place."""
        return {"run": self.run.summary["hash"], "since": self.since, "replay_share": self.replay_share,
                "learning_rate_factor": self.learning_rate_factor}

    def train_config(self, *, epochs: int, seed: int) -> TrainConfig:
        """Returns the run's configuration with what a refresh changes: epochs, seed, learning rate."""
        optimizer = self.run.config.optimizer
        # The last run may be a refresh itself; its factor must not multiply with this one.
        first = optimizer.learning_rate / self.run.summary.get("start", {}).get("learning_rate_factor", 1.0)
        return dataclasses.replace(
            self.run.config, epochs=epochs, seed=seed, early_stopping=None,
            optimizer=dataclasses.replace(optimizer, learning_rate=first * self.learning_rate_factor))

    def initialise(self, recommender) -> None:
        """Assigns the run's weights, see `take_over`."""
        from trainer.feedback.refresh_weights import take_over

        take_over(recommender, before=self.run.recommender())

    def sampler(self, prepared: PreparedData, *, config: TaskSamplerConfig, label: Label, seed: int) -> RefreshSampler:
        """Returns the sampler of new and old tasks."""
        return RefreshSampler(prepared.train, config=config, label=label, since=self.since,
                              replay_share=self.replay_share, seed=seed)
