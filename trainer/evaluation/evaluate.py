"""The evaluation protocol."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmeta.data.label import Label
from tfmeta.data.task_set import STATES, TaskSet
from tfmeta.errors import ConfigError, RunError, suggest
from tfmeta.metrics import MetricSet
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.evaluation_cell import EvaluationCell
from trainer.evaluation.scorer import ROLES, Scorer

DEFAULT_KS = (0, 1, 3, 5, 10, 20, "all")
FLOOR, CEILING = "chance", "perfect_order"


def evaluate(scorers: Sequence[Scorer], tasks: TaskSet, *, label: Label, ks: Sequence[int | str] = DEFAULT_KS,
             states: Sequence[str] | None = None, cutoffs: Sequence[int] = (5,),
             levels: Sequence[float] | None = None, catalogue: Catalogue | None = None, seed: int = 0,
             features: str = "full",
             progress: Callable[[str], Any] | None = None) -> Evaluation:
    """Scores the same tasks with every model at every k, and adds the chance floor and the ceiling.

    Models see the first min(k, n) support rows and never the query's labels, which are blanked before they are
    asked.

    Args:
      scorers: models with distinct names; learners, references, ceilings.
      tasks: fixed tasks.
      label: range, unit and threshold of relevance.
      ks: numbers of support rows, `"all"` for the whole support.
      states: those to evaluate; default all that occur.
      cutoffs: k of the list metrics.
      levels: ascending label values for `mae_median`; None leaves it out.
      catalogue: also measures recommendation out of all items, at its own ks; not of the synthetic oracles, which
        know the query items alone.
      seed: of the training of learners and seeded references.
      features: `full` or `genres_only`, for the rows.
      progress: called with a description before each of `(scorers + 1) * ks` steps of every state.

    Raises:
      ConfigError: on an unknown state, role or k, or a repeated name.
      RunError: if a model's scores have the wrong shape or are not numbers.
    """
    ks = check_ks(ks)
    names = [s.name for s in scorers]
    repeated = sorted({n for n in names if _k_name_count(scorers, n, ks) > 1 or n in (FLOOR, CEILING)})
    if repeated:
        raise ConfigError(f"Models of an evaluation require distinct names; repeated or reserved: {repeated}.")
    for scorer in scorers:
        if scorer.role not in ROLES:
            raise ConfigError(f"Model '{scorer.name}' requires a role of {', '.join(ROLES)}, received {scorer.role!r}.")
    for state in states or ():
        if state not in STATES:
            raise ConfigError(f"Unknown state '{state}'.{suggest(state, STATES)}")
        if state not in tasks.states:
            raise ConfigError(f"The tasks have no state '{state}', only {', '.join(tasks.states) or 'none'}.")
    if catalogue is not None and catalogue.cutoff in cutoffs:
        raise ConfigError(f"The cut-off of the catalogue metrics requires another value than those of the list metrics "
                          f"({', '.join(map(str, cutoffs))}), received {catalogue.cutoff}.")
    metrics = MetricSet(label, tuple(cutoffs), None if levels is None else tuple(levels))
    report = progress or (lambda text: None)
    cells = []
    for state in tasks.states if states is None else states:
        part = tasks.in_state(state)
        blind = dataclasses.replace(part, query_label=np.full_like(part.query_label, np.nan))
        axes = {"user_row": part.user_row, "split": part.split, "query_length": part.query_length, "state": state,
                "features": features}
        for name, role in ((FLOOR, "floor"), (CEILING, "ceiling")):
            report(f"{state} {name}")
            values = getattr(metrics, role)(part.query_label, part.query_length)
            if catalogue is not None:
                values |= getattr(catalogue, role)(part)
            cell = EvaluationCell.of(values, model=name, role=role, k="all", seed="mean", **axes)
            cells += [dataclasses.replace(cell, k=k) for k in ks]
        for scorer in scorers:
            labels = {"model": scorer.name, "role": scorer.role, "uses_history": scorer.uses_history,
                      "selected": getattr(scorer, "selected", False),
                      "seed": seed if getattr(scorer, "seeded", scorer.role == "learner") else "mean"}
            answered = [k for k in ks if getattr(scorer, "ks", None) is None or k in scorer.ks]
            cell = None
            for k in answered:
                report(f"{state} {scorer.name} k={k}")
                if cell is not None and not scorer.uses_support:
                    cell = dataclasses.replace(cell, k=k)
                else:
                    shown = blind.truncate(None if k == "all" else k)
                    values = _score(scorer, shown, part, metrics)
                    if catalogue is not None and scorer.role != "ceiling" and (k in catalogue.ks
                                                                               or not scorer.uses_support):
                        values |= catalogue.measure(scorer, shown, part=part)
                    cell = EvaluationCell.of(values, k=k, **axes, **labels)
                cells.append(cell)
    return Evaluation(tuple(cells))


def check_ks(ks: Sequence[int | str]) -> tuple[int | str, ...]:
    """Returns distinct ks in ascending order, `"all"` last; ConfigError on anything else."""
    for k in ks:
        if not (k == "all" or (isinstance(k, int) and not isinstance(k, bool) and k >= 0)):
            raise ConfigError(f"k requires whole numbers of support rows from 0, or 'all', received {k!r}.")
    return tuple(sorted(set(ks), key=lambda k: np.inf if k == "all" else k))


def check_support(ks: Sequence[int | str], *, longest: int, of: str) -> None:
    """Raises ConfigError if a k is larger than the largest support, so that no user could ever show it.

    Args:
      ks: numbers of support rows, `"all"` among them or not.
      longest: rows of the largest support.
      of: what it is the largest support of, for the message.
    """
    for k in check_ks(ks):
        if k != "all" and k > longest:
            raise ConfigError(f"'--k' requires at most {longest}, the largest support of {of}, received {k}.")


def _k_name_count(scorers: Sequence[Scorer], name: str, ks: tuple) -> int:
    """How often a name answers for the same k, at most."""
    own = [getattr(s, "ks", None) or ks for s in scorers if s.name == name]
    return max(sum(k in answered for answered in own) for k in ks)


def _score(scorer: Scorer, blind: TaskSet, part: TaskSet, metrics: MetricSet) -> dict[str, np.ndarray]:
    score = np.asarray(scorer.score(blind), np.float64)
    if score.shape != part.query_item.shape:
        raise RunError(f"Model '{scorer.name}' requires scores of shape {part.query_item.shape}, "
                       f"returned {score.shape}.")
    real = np.arange(score.shape[1])[None, :] < part.query_length[:, None]
    bad = (real & np.isnan(score)).any(axis=1)
    if bad.any():
        raise RunError(f"Model '{scorer.name}' scored {int(bad.sum())} of {len(bad)} {part.state[0]} tasks with NaN, "
                       f"the first of user row {part.user_row[bad][0]}. Its weights may have diverged.")
    median = scorer.median(blind) if hasattr(scorer, "median") else None
    return metrics.compute(score, part.query_label, part.query_length, label_unit=scorer.label_unit,
                           probability=scorer.probability, median=median)
