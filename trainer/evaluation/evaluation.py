"""The outcome of an evaluation."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tfmeta.errors import DataError
from tfmeta.metrics import lower_is_better
from tfmeta.metrics.significance import bootstrap_interval, holm, wilcoxon
from trainer.evaluation.evaluation_cell import EvaluationCell

# The family of hypotheses that is corrected: these metrics in these states, whole support, selected learner.
FAMILY_METRICS = ("mae", "ndcg@5", "auc")
FAMILY_STATES = ("user_cold", "item_cold", "both_cold")
# What a committed results file has at every k; everything else only at k of 0, 5 and all.
EVERY_K_METRICS = ("mae", "ndcg@5", "auc")
COMMITTED_K = (0, 5, "all")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of models by state and k, overall and per user.

    Attributes:
      cells: one per (state, model, k, seed).
    """

    cells: tuple[EvaluationCell, ...]

    @classmethod
    def merge(cls, evaluations: "Iterable[Evaluation]") -> "Evaluation":
        """Joins evaluations on the same tasks: runs with several training seeds, several learners.

        Models that were trained get an aggregate with seed `"mean"` where there is more than one seed; models without
        a seed must agree and are kept once.

        Raises:
          DataError: if the evaluations are of different test users, or a learner occurs twice with one seed.
        """
        groups: dict[tuple, dict[int | str, EvaluationCell]] = defaultdict(dict)
        for evaluation in evaluations:
            aggregated = _aggregated(evaluation.cells)
            for cell in evaluation.cells:
                if cell.seed == "mean" and (cell.role == "learner" or cell.model in aggregated):
                    continue
                group = groups[cell.state, cell.model, cell.k]
                if cell.seed in group and (cell.role == "learner" or not _same(cell, group[cell.seed])):
                    raise DataError(
                        f"Model '{cell.model}' occurs twice with seed {cell.seed} in state '{cell.state}'"
                        + (": name the learners apart." if cell.role == "learner" else
                           ", with different values: the evaluations were not made on the same data."))
                group[cell.seed] = cell
        cells = []
        for group in groups.values():
            same = list(group.values())
            for cell in same[1:]:
                if not np.array_equal(cell.user_row, same[0].user_row) or cell.metrics != same[0].metrics:
                    raise DataError(f"Evaluations of '{cell.model}' require the same test users and metrics in state "
                                    f"'{cell.state}'.")
            cells += same
            if len(same) > 1:
                cells.append(EvaluationCell.mean(same))
        return cls(tuple(cells))

    def rows(self, *, resamples: int = 2000, seed: int = 0,
             family: Sequence[str] = FAMILY_METRICS) -> list[dict[str, Any]]:
        """Returns flat records: `state, model, role, k, seed, metric, value, low, high, p_value, users, selected,
        uses_history, features`.

        `low, high` is the 95 % bootstrap interval over users, of gains a paired one. `p_value` of a learner is the
        Wilcoxon signed-rank test against the reference strongest in that state, metric and k (Holm-corrected for
        the selected learner in the family, see `FAMILY_METRICS`), of a gain the test against no gain; single
        seeds beside an aggregate have none. None stands for what is undefined.

        Args:
          resamples, seed: of the bootstrap.
          family: metrics of the family.
        """
        rows = []
        for state in dict.fromkeys(cell.state for cell in self.cells):
            rows += self._state_rows(state, resamples, seed, family)
        tested = [row for row in rows if row.pop("family")]
        for row, value in zip(tested, holm(np.array([row["p_value"] for row in tested], np.float64)), strict=True):
            row["p_value"] = value
        for row in rows:
            for name in ("value", "low", "high", "p_value"):
                row[name] = float(row[name]) if row[name] is not None and np.isfinite(row[name]) else None
        return rows

    def per_user(self) -> pd.DataFrame:
        """Returns one row per (state, model, k, seed, user) and one column per metric, averaged over splits.

        `k` and `seed` are strings; `rmse_pooled` is left out, its users' part is `mse`.
        """
        frames = []
        for cell in self.cells:
            frame = pd.DataFrame(cell.user_value, columns=list(cell.metrics)).drop(columns="rmse_pooled",
                                                                                 errors="ignore")
            labels = {"state": cell.state, "model": cell.model, "role": cell.role, "k": str(cell.k),
                      "seed": str(cell.seed), "user_row": cell.user_row}
            frames.append(pd.concat([pd.DataFrame(labels, index=frame.index), frame], axis=1))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _state_rows(self, state: str, resamples: int, seed: int, family: Sequence[str]) -> list[dict[str, Any]]:
        cells = [c for c in self.cells if c.state == state]
        by_key = {(c.model, c.k, c.seed): c for c in cells}
        aggregated = _aggregated(cells)
        rows, columns = [], []
        for cell in cells:
            final = cell.model not in aggregated or cell.seed == "mean"
            base = by_key.get((cell.model, 0, cell.seed)) if cell.role == "learner" and cell.k != 0 else None
            for j, metric in enumerate(cell.metrics):
                if metric == "mse" or not cell.users[j]:
                    continue
                p_value, values = None, cell.user_value[:, j]
                if cell.role == "learner" and final:
                    best = _best_reference([c for c in cells if c.model not in aggregated or c.seed == "mean"], cell.k,
                                           metric)
                    p_value = None if best is None else wilcoxon(values, best)
                in_family = (cell.selected and final and p_value is not None and cell.k == "all"
                             and metric in family and state in FAMILY_STATES)
                rows.append(_row(cell, metric, cell.value[j], int(cell.users[j]), p_value, in_family))
                columns.append(values)
                if base is not None and metric in base.metrics and metric != "rmse_pooled":
                    i = base.metrics.index(metric)
                    gain = values - base.user_value[:, i]
                    rows.append(_row(cell, f"gain_{metric}", cell.value[j] - base.value[i], int(cell.users[j]),
                                     wilcoxon(gain) if final else None, False))
                    columns.append(gain)
        if columns:
            low, high = bootstrap_interval(np.stack(columns, axis=1), seed=seed, resamples=resamples)
            for row, *bounds in zip(rows, low, high, strict=True):
                row["low"], row["high"] = np.sqrt(bounds) if row["metric"] == "rmse_pooled" else bounds
        return rows


def committed_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows of a results file that is small enough to be committed: see `EVERY_K_METRICS`."""
    return [row for row in rows if row["k"] in COMMITTED_K or row["metric"].removeprefix("gain_") in EVERY_K_METRICS]


def _row(cell: EvaluationCell, metric: str, value: float, users: int, p_value: float | None,
         family: bool) -> dict[str, Any]:
    return {"state": cell.state, "model": cell.model, "role": cell.role, "k": cell.k, "seed": cell.seed,
            "metric": metric, "value": value, "low": None, "high": None, "p_value": p_value, "users": users,
            "selected": cell.selected, "uses_history": cell.uses_history, "features": cell.features, "family": family}


def _aggregated(cells: Iterable[EvaluationCell]) -> set[str]:
    """Returns the models that have an aggregate over training seeds beside the seeds' own cells."""
    cells = list(cells)
    trained = {c.model for c in cells if c.seed != "mean"}
    return {c.model for c in cells if c.seed == "mean" and (c.model in trained or c.role == "learner")}


def _best_reference(cells: list[EvaluationCell], k: int | str, metric: str) -> np.ndarray | None:
    """Returns the user values `[U]` of the reference with the best value, None without references."""
    known = [(c.value[c.metrics.index(metric)], c) for c in cells
             if c.role == "reference" and c.k == k and metric in c.metrics]
    known = [(value, c) for value, c in known if not np.isnan(value)]
    if not known:
        return None
    choose = min if lower_is_better(metric) else max
    _, cell = choose(known, key=lambda pair: pair[0])
    return cell.user_value[:, cell.metrics.index(metric)]


def _same(first: EvaluationCell, second: EvaluationCell) -> bool:
    return (np.array_equal(first.user_row, second.user_row) and first.metrics == second.metrics
            and np.allclose(first.value, second.value, rtol=1e-9, equal_nan=True))
