"""The step from a prepared directory to a training run."""

from collections.abc import Mapping
from typing import Any

from tfmeta import config as configs
from trainer.benchmarking.search_space import deep_merge
from trainer.config import TrainConfig, load_config
from trainer.pipelines.steps.prepare import whole


def train(*, config: str, settings: Mapping[str, Any], prepared, run, metrics) -> None:
    """Meta-trains; a run that was cut off at the same place goes on.

    Args:
      config: YAML file or packaged configuration; empty for the defaults.
      settings: nested, laid over it.
      prepared: the prepared directory.
      run: gets the run directory.
      metrics: gets how training went.

    Raises:
      ConfigError, DataError, RunError: as `trainer.loop.train` does.
    """
    from trainer.loop import train as train_run
    from trainer.run_directory import RunDirectory

    result = train_run(config=training_config(config, settings), data=prepared.path, run=run.path, resume=True,
                       progress=False)
    learner = RunDirectory.open(result.run).config.learner["name"]
    run.metadata |= {"framework": "tfmeta", "learner": learner, "hash": result.hash}
    metrics.metadata |= {"epochs": result.epochs, "best_epoch": result.best_epoch,
                         "train_loss": result.history[-1]["train_loss"], "seconds": result.seconds}
    if result.metric is not None:
        metrics.metadata[result.metric] = result.best


def training_config(source: str, settings: Mapping[str, Any]) -> TrainConfig:
    """Returns the configuration of a file or package with nested settings laid over it.

    Raises:
      ConfigError: if the file is absent, or a key or value is wrong.
    """
    base = configs.to_dict(load_config(source or None))
    return configs.parse(TrainConfig, deep_merge(base, whole(settings)), where="train")
