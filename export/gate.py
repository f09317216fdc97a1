"""The promotion gate: whether an evaluation speaks for exporting a model."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfmeta.data.task_set import STATES
from tfmeta.errors import ConfigError, ExportError, suggest
from tfmeta.metrics import lower_is_better
from trainer.evaluation import positives_only
from trainer.report.result_rows import ResultRows, k_order
from trainer.report.words import metric_name, state_name

METRICS = ("auc", "ndcg@5", "mae")
# Where none of those was measured, because the queries hold positives only.
CATALOGUE_METRIC = positives_only.METRICS[0]
# The bias model, for labels that it is made for; popularity is its part for weights and for positives alone, of whose
# labels every mean is the same.
BIAS_BASELINES = ("damped_bias", "popularity")


@dataclasses.dataclass(frozen=True)
class GateResult:
    """What the gate found.

    Attributes:
      learner: the model that was judged.
      baseline: name of the bias baseline.
      comparisons: JSON-able, one per state, metric and opponent: `state, metric, k, opponent` (`unadapted` or the
        baseline's name), `adapted, other, passed`; values are None where the evaluation has none.
      reasons: one line for each comparison that was not won; empty if the gate is passed.
    """

    learner: str
    baseline: str
    comparisons: tuple[dict[str, Any], ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons

    def require_passed(self, name: str) -> None:
        """Raises ExportError with all reasons unless the gate is passed; `name` says what is not exported."""
        if self.reasons:
            raise ExportError(f"The gate keeps '{name}' back: {'; '.join(self.reasons)}. Train a better model, or "
                              "export without --gate.")


def check(evaluation: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, learner: str | None = None,
          metrics: Sequence[str] | None = None, states: Sequence[str] | None = None) -> GateResult:
    """Judges an evaluation: in every state the adapted model must be better than itself unadapted and the bias model.

    Adapted means the most support that was evaluated, unadapted k = 0. Better means strictly better, in every one of
    the metrics that the label's unit has (MAE less, AUC and NDCG more); a value that is missing or undefined for the
    model counts against it. Where queries hold positives only, that is NDCG@20 over the whole catalogue, and the bias
    model is popularity.

    Args:
      evaluation: the content of evaluation.json, or its rows.
      learner: the model to judge; default the selected one, else the only one.
      metrics: names; those that no learner has are left out. None takes `METRICS`, or `CATALOGUE_METRIC`.
      states: to judge; default all that were evaluated.

    Raises:
      ConfigError: on an unknown state.
      ExportError: if the evaluation lacks what the gate needs: a learner, k = 0, the bias baseline, every metric.
      DataError: if rows are malformed.
    """
    rows = [r for r in _rows(evaluation) if not r.get("uses_history")]
    table = ResultRows.of(rows)
    learner = _learner(table, learner)
    judged = _states(table, states)
    if not judged:
        raise ExportError("The gate requires an evaluation with at least one defined value, received none.")
    measured, baselines = {r["metric"] for r in table.select(role="learner")}, BIAS_BASELINES
    if metrics is None:
        metrics = METRICS
        if CATALOGUE_METRIC in measured and not measured & set(METRICS):
            metrics, baselines = (CATALOGUE_METRIC,), BIAS_BASELINES[1:]
    baseline = next((b for b in baselines if all(b in table.models(s, "reference") for s in judged)), None)
    if baseline is None:
        raise ExportError(f"The gate requires the bias baseline ({' or '.join(baselines)}) in every evaluated "
                          "state. Evaluate the run with it: tfmeta evaluate.")
    known = [m for m in metrics if m in measured]
    if not known:
        raise ExportError(f"The gate requires one of the metrics {', '.join(metrics)}, the evaluation has none.")
    # Popularity has no error in the label's unit: what a baseline has in no state is not compared.
    shared = {m for m in known if table.select(model=baseline, metric=m)}
    if not shared:
        raise ExportError(f"The gate requires one of the metrics {', '.join(known)} of '{baseline}', it has none.")
    comparisons, reasons = [], []
    for state in judged:
        for metric in known:
            curve = table.curve(state, learner, metric)
            if curve and k_order(curve[0]["k"]) != 0:
                raise ExportError(f"The gate requires the unadapted model (k = 0) in state '{state}'. Evaluate the "
                                  "run with k 0 among its ks.")
            # A model whose only k is 0 was never adapted.
            adapted = curve[-1] if len(curve) > 1 else None
            others = {"unadapted": curve[0] if curve else None, baseline: table.last(state, baseline, metric)}
            for opponent, other in others.items():
                if opponent == baseline and metric not in shared:
                    continue
                made = _compare(state, metric, opponent, adapted, other)
                comparisons.append(made)
                if not made["passed"]:
                    reasons.append(_reason(made))
    return GateResult(learner, baseline, tuple(comparisons), tuple(reasons))


def _rows(evaluation: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    rows = evaluation.get("rows") if isinstance(evaluation, Mapping) else evaluation
    if not rows:
        raise ExportError("The gate requires an evaluation with rows, received none. Make one with 'tfmeta evaluate'.")
    return list(rows)


def _learner(table: ResultRows, wanted: str | None) -> str:
    learners = table.select(role="learner")
    names = list(dict.fromkeys(r["model"] for r in learners))
    if wanted is not None:
        if wanted not in names:
            raise ExportError(f"The evaluation has no learner '{wanted}'.{suggest(wanted, names)}")
        return wanted
    chosen = list(dict.fromkeys(r["model"] for r in learners if r.get("selected"))) or names
    if len(chosen) != 1:
        raise ExportError(f"The gate requires one learner, the evaluation has {', '.join(chosen) or 'none'}. Name it.")
    return chosen[0]


def _states(table: ResultRows, wanted: Sequence[str] | None) -> list[str]:
    for state in wanted or ():
        if state not in STATES:
            raise ConfigError(f"Unknown state '{state}'.{suggest(state, STATES)}")
        if state not in table.states:
            raise ExportError(f"The evaluation has no state '{state}', only {', '.join(table.states)}.")
    return list(wanted or table.states)


def _compare(state: str, metric: str, opponent: str, adapted: dict | None, other: dict | None) -> dict[str, Any]:
    mine, theirs = (None if row is None else float(row["value"]) for row in (adapted, other))
    passed = mine is not None and theirs is not None and (mine < theirs if lower_is_better(metric) else mine > theirs)
    return {"state": state, "metric": metric, "k": None if adapted is None else adapted["k"], "opponent": opponent,
            "adapted": mine, "other": theirs, "passed": passed}


def _reason(made: dict[str, Any]) -> str:
    where = f"{state_name(made['state'])} {metric_name(made['metric'])}"
    if made["adapted"] is None or made["other"] is None:
        return f"{where}: no value to compare with {made['opponent']}"
    return (f"{where}: adapted {made['adapted']:.4f} is no better than {made['other']:.4f} "
            f"({made['opponent'].replace('_', ' ')})")
