"""Choice of a baseline's hyper-parameters on the validation users."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmeta.baselines import BASELINES, Baseline, build_baseline
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import DataError
from tfmeta.metrics import ranking, rating

# Takes a fitted baseline, tasks without and with query labels; returns `[T]`, more being better, NaN where undefined.
Measure = Callable[[Baseline, TaskSet, TaskSet], np.ndarray]
# Settings compared per baseline; a learner gets as many trials.
BUDGET = 12


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Outcome of `tune`.

    Attributes:
      params: the chosen setting.
      criterion: `mae`, `auc` or the name of the measure given, the mean over validation states of the mean over tasks
        with their whole support.
      trials: every setting with its value, in the order tried.
    """

    params: dict[str, Any]
    criterion: str
    trials: tuple[tuple[dict[str, Any], float], ...]


def tune(name: str, prepared: PreparedData, *, budget: int = BUDGET, seed: int = 0,
         measure: tuple[str, Measure] | None = None, progress: Callable[[int], Any] | None = None) -> Tuning:
    """Fits every setting of a baseline's grid on the training data and keeps the best on the validation tasks.

    The criterion is MAE for ratings in the label's unit and AUC otherwise; one setting serves all states, whose
    values count alike.

    Args:
      name: key in `BASELINES`.
      prepared: a directory with validation tasks.
      budget: settings tried; of a larger grid, that many drawn without replacement.
      seed: of the draw.
      measure: name and function of another criterion, for all baselines.
      progress: called with 1 after each trial.

    Raises:
      DataError: if there are several settings and no validation tasks to choose on.
    """
    grid = BASELINES[name].grid()
    if len(grid) > budget:
        chosen = np.random.default_rng([seed, len(grid)]).permutation(len(grid))[:budget]
        grid = [grid[i] for i in sorted(chosen)]
    label = prepared.feature_spec.label
    by_error = measure is None and label.unit == "rating" and BASELINES[name].label_unit
    criterion = measure[0] if measure else "mae" if by_error else "auc"
    if len(grid) == 1:
        return Tuning(grid[0], criterion, ())
    tasks = prepared.tasks("validation")
    if not len(tasks):
        raise DataError(f"Tuning baseline '{name}' requires validation tasks; '{getattr(prepared, 'path', '')}' has "
                        "none. Tune on a directory prepared with a validation split.")
    blind = dataclasses.replace(tasks, query_label=np.full_like(tasks.query_label, np.nan))
    trials = []
    for params in grid:
        baseline = build_baseline(name, **params).fit(prepared)
        query = (tasks.query_label, tasks.query_length)
        if measure:
            value = measure[1](baseline, blind, tasks)
        elif by_error:
            value = rating.mae(baseline.score(blind), *query, minimum=label.minimum, maximum=label.maximum)
        else:
            value = ranking.auc(baseline.score(blind), *query, threshold=label.threshold)
        means = [np.nanmean(value[tasks.state == s]) for s in tasks.states
                 if not np.isnan(value[tasks.state == s]).all()]
        trials.append((params, float(np.mean(means)) if means else float("nan")))
        if progress is not None:
            progress(1)
    sign = 1.0 if by_error else -1.0
    best = min(trials, key=lambda trial: np.inf if np.isnan(trial[1]) else sign * trial[1])
    return Tuning(best[0], criterion, tuple(trials))
