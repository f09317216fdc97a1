"""Choice of a baseline's hyper-parameters on the validation users."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmeta.baselines import BASELINES, build_baseline
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import DataError
from tfmeta.metrics import ranking, rating

# Settings compared per baseline; a learner gets as many trials.
BUDGET = 12


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Outcome of `tune`.

    Attributes:
      params: the chosen setting.
      criterion: `mae` or `auc`, the mean over validation states of the mean over tasks with their whole support.
      trials: every setting with its value, in the order tried.
    """

    params: dict[str, Any]
    criterion: str
    trials: tuple[tuple[dict[str, Any], float], ...]


def tune(name: str, prepared: PreparedData, *, budget: int = BUDGET, seed: int = 0,
         progress: Callable[[int], Any] | None = None) -> Tuning:
    """Fits every setting of a baseline's grid on the training data and keeps the best on the validation tasks.

    The criterion is MAE for ratings in the label's unit and AUC otherwise; one setting serves all states, whose
    values count alike.

    Args:
      name: key in `BASELINES`.
      prepared: a directory with validation tasks.
      budget: settings tried; of a larger grid, that many drawn without replacement.
      seed: of the draw.
      progress: called with 1 after each trial.

    Raises:
      DataError: if there are several settings and no validation tasks to choose on.
    """
    grid = BASELINES[name].grid()
    if len(grid) > budget:
        chosen = np.random.default_rng([seed, len(grid)]).permutation(len(grid))[:budget]
        grid = [grid[i] for i in sorted(chosen)]
    label = prepared.feature_spec.label
    by_error = label.unit == "rating" and BASELINES[name].label_unit
    criterion = "mae" if by_error else "auc"
    if len(grid) == 1:
        return Tuning(grid[0], criterion, ())
    tasks = prepared.tasks("validation")
    if not len(tasks):
        raise DataError(f"Tuning baseline '{name}' requires validation tasks; '{getattr(prepared, 'path', '')}' has "
                        "none. Tune on a directory prepared with a validation split.")
    blind = dataclasses.replace(tasks, query_label=np.full_like(tasks.query_label, np.nan))
    trials = []
    for params in grid:
        score = build_baseline(name, **params).fit(prepared).score(blind)
        if by_error:
            value = rating.mae(score, tasks.query_label, tasks.query_length, minimum=label.minimum,
                               maximum=label.maximum)
        else:
            value = ranking.auc(score, tasks.query_label, tasks.query_length, threshold=label.threshold)
        means = [np.nanmean(value[tasks.state == s]) for s in tasks.states
                 if not np.isnan(value[tasks.state == s]).all()]
        trials.append((params, float(np.mean(means)) if means else float("nan")))
        if progress is not None:
            progress(1)
    sign = 1.0 if by_error else -1.0
    best = min(trials, key=lambda trial: np.inf if np.isnan(trial[1]) else sign * trial[1])
    return Tuning(best[0], criterion, tuple(trials))
