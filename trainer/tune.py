"""The search for a training configuration's settings."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from tfmeta import config
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import DataError, RunError
from tfmeta.io import filesystem
from trainer.benchmarking.criterion import Criterion
from trainer.benchmarking.learner_system import LearnerSystem
from trainer.benchmarking.search_space import SearchSpace
from trainer.benchmarking.suite_data import SuiteData
from trainer.benchmarking.tuner import Tuner
from trainer.benchmarking.tuning_subset import write_tuning_subset
from trainer.benchmarking.workspace import Workspace
from trainer.config import TrainConfig
from trainer.resolve_learner import resolve_learner
from trainer.tuning_space import tuning_space

_SYSTEM = "tuned"


def tune(base: TrainConfig, *, data: str, out: str, search: Mapping[str, Any] | None = None, metric: str | None = None,
         budget: int = 16, time_limit: float = 3600.0, users: int | None = None, seed: int = 0,
         progress: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Tries settings as the benchmark does, by the same `Tuner`, and writes the best as a configuration.

    Args:
      base: everything that is not searched, and the first trial.
      data: prepared directory with validation tasks, on which trials are scored with their whole supports.
      out: directory of the trials; a search that was cut off there goes on.
      search: dotted path -> domain; None for the default space.
      metric: `mae`, `auc`, or `ndcg@20` or `recall@20` over the whole catalogue, the mean over the validation states;
        default by the label's unit, and `ndcg@20` where the validation queries hold positives only.
      budget: number of trials.
      time_limit: seconds after which no further trial begins.
      users: training users that trials are fitted on; None for all.
      seed: of draws and fits.
      progress: called with a line before every trial.

    Returns:
      JSON-able: `config` (the file OUT/best.yaml), `number`, `criterion`, `value`, `params` of the best trial, and
      all `trials`.

    Raises:
      ConfigError: if the space, a setting or the metric does not fit.
      DataError: if there are no validation tasks.
      RunError: if every trial failed.
    """
    prepared = PreparedData(data)
    if not len(prepared.tasks("validation")):
        raise DataError(f"Tuning requires validation tasks, '{prepared.path}' has none. Prepare the data with them.")
    base = resolve_learner(base, prepared)
    space = tuning_space(base, search=search)
    # The tuner seeds every trial by itself.
    system = LearnerSystem(_SYSTEM, space=SearchSpace({**space.fixed, "seed": seed}, space.search), family="tuned")
    system.check(prepared)
    criterion = Criterion.of(prepared, metric=metric)
    subset = prepared if users is None else _subset(prepared, folder=out, users=users)
    tuner = Tuner(Workspace(out), data=SuiteData(prepared, subset, prepared), budget=budget, time_limit=time_limit,
                  criterion=criterion, seed=seed)
    tuner.tune(system, progress=progress)
    best = tuner.best(system)
    trials = tuner.trials(system)
    if best is None:
        why = trials[0]["error"] or f"{trials[0]['criterion']} is undefined on every validation task"
        raise RunError(f"Every trial failed; the first one: {why}")
    path = filesystem.join(out, "best.yaml")
    chosen = config.to_dict(config.parse(TrainConfig, system.space.apply(best["params"])))
    filesystem.write_text(path, yaml.safe_dump(chosen, sort_keys=False))
    return {"config": path, **{key: best[key] for key in ("number", "criterion", "value", "params")},
            "trials": [{key: trial.get(key) for key in ("number", "criterion", "value", "error", "params", "seconds")}
                       for trial in trials]}


def _subset(prepared: PreparedData, *, folder: str, users: int) -> PreparedData:
    path = filesystem.join(folder, "data", f"subset-{users}-{prepared.training_fingerprint()[:12]}")
    return PreparedData(path) if filesystem.exists(path) else write_tuning_subset(prepared, out=path, users=users)
