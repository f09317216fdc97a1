"""Look-up in the flat records of an evaluation."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from tfmeta.data.task_set import STATES
from tfmeta.errors import DataError
from tfmeta.metrics import lower_is_better

REQUIRED = ("state", "model", "role", "k", "metric", "value")
ROLES = ("floor", "reference", "learner", "ceiling")
# The order of columns and panels; what is not named here follows in alphabetical order.
METRIC_ORDER = ("auc", "ndcg@5", "mae", "rmse", "logloss", "ndcg_linear@5", "mrr", "accuracy", "precision@5",
                "recall@5", "f1@5", "hit@5", "ndcg@20", "recall@20", "rmse_pooled", "mae_median")
# The ceiling that knows how synthetic data were made, and sees the same support rows as the learner.
ATTAINABLE = "synthetic_fold_in"


@dataclasses.dataclass(frozen=True)
class ResultRows:
    """The rows of one evaluation, reduced to one per (state, model, k, metric).

    Of several training seeds the row with `seed == "mean"` stands for all; where there is none, the values are
    averaged and the intervals left out.

    Attributes:
      rows: flat records `state, model, role, k, metric, value` and, where known, `low, high, p_value, users,
        selected, uses_history, features, seed`.
    """

    rows: tuple[dict[str, Any], ...]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "ResultRows":
        """Checks and reduces rows; DataError names the first row that lacks a field or has an unknown role."""
        groups: dict[tuple, list[dict]] = {}
        for number, row in enumerate(rows):
            missing = [name for name in REQUIRED if name not in row]
            if missing:
                raise DataError(f"Evaluation row {number} requires {', '.join(REQUIRED)}; it lacks "
                                f"{', '.join(missing)}: {dict(row)!r}.")
            if row["role"] not in ROLES:
                raise DataError(f"Evaluation row {number} requires a role of {', '.join(ROLES)}, received "
                                f"{row['role']!r}.")
            if row["metric"] in ("mse", "gain_mse") or row["value"] is None or not math.isfinite(row["value"]):
                continue
            groups.setdefault((row["state"], row["model"], str(row["k"]), row["metric"]), []).append(dict(row))
        return cls(tuple(_reduce(group) for group in groups.values()))

    @property
    def states(self) -> list[str]:
        """The states that occur, in the canonical order."""
        found = {row["state"] for row in self.rows}
        return [s for s in STATES if s in found] + sorted(found - set(STATES))

    def select(self, **wanted) -> list[dict[str, Any]]:
        """Returns the rows whose fields equal the given ones."""
        return [r for r in self.rows if all(r.get(k) == v for k, v in wanted.items())]

    def metrics(self, state: str | None = None) -> list[str]:
        """The metrics of a state (or of all), most important first; gains are not among them."""
        found = {r["metric"] for r in self.rows if state in (None, r["state"])}
        found = {m for m in found if not m.startswith("gain_")}
        return [m for m in METRIC_ORDER if m in found] + sorted(found - set(METRIC_ORDER))

    def digits(self, metric: str) -> int:
        """Decimals that tell models apart: 3, or 4 where no value of the metric, ceilings left out, reaches 0.1.

        Of a gain those of its metric. Recall out of a catalogue of ten thousand items is such a metric.
        """
        return 4 if self._largest.get(metric.removeprefix("gain_"), 1.0) < 0.1 else 3

    @functools.cached_property
    def _largest(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for row in self.rows:
            if row["role"] != "ceiling":
                found[row["metric"]] = max(found.get(row["metric"], 0.0), abs(row["value"]))
        return found

    def models(self, state: str, role: str) -> list[str]:
        """The models of a state in a role, in order of appearance, a selected one first."""
        rows = self.select(state=state, role=role)
        names = list(dict.fromkeys(r["model"] for r in rows))
        chosen = {r["model"] for r in rows if r.get("selected")}
        return sorted(names, key=lambda name: name not in chosen)

    def curve(self, state: str, model: str, metric: str) -> list[dict[str, Any]]:
        """The rows of one model over k, ascending, `all` last."""
        return sorted(self.select(state=state, model=model, metric=metric), key=lambda r: k_order(r["k"]))

    def last(self, state: str, model: str, metric: str) -> dict[str, Any] | None:
        """The row with the most support, or None."""
        rows = self.curve(state, model, metric)
        return rows[-1] if rows else None

    def best(self, state: str, role: str, metric: str) -> dict[str, Any] | None:
        """The best row at the most support over the models of a role, or None."""
        rows = [self.last(state, model, metric) for model in self.models(state, role)]
        rows = [r for r in rows if r is not None]
        return (min if lower_is_better(metric) else max)(rows, key=lambda r: r["value"]) if rows else None

    def recovered(self, state: str, model: str, metric: str) -> float | None:
        """The share of the distance from a model's unadapted value to the attainable one that adaptation closes.

        None where the data are not synthetic, or nothing is to be gained.
        """
        curve, attainable = self.curve(state, model, metric), self.last(state, ATTAINABLE, metric)
        if len(curve) < 2 or k_order(curve[0]["k"]) != 0 or attainable is None:
            return None
        distance = attainable["value"] - curve[0]["value"]
        better = distance < 0 if lower_is_better(metric) else distance > 0
        return (curve[-1]["value"] - curve[0]["value"]) / distance if better else None

    def gain(self, state: str, model: str, metric: str) -> dict[str, Any] | None:
        """Adapted (most support) minus unadapted (k = 0): the recorded row, else the difference; or None."""
        recorded = self.last(state, model, f"gain_{metric}")
        if recorded is not None:
            return recorded
        curve = self.curve(state, model, metric)
        if len(curve) < 2 or k_order(curve[0]["k"]) != 0:
            return None
        return {**curve[-1], "metric": f"gain_{metric}", "value": curve[-1]["value"] - curve[0]["value"],
                "low": None, "high": None, "p_value": None}


def k_order(k: Any) -> float:
    """A number to sort `k` by; `all` and none come last."""
    return math.inf if k in ("all", None, "") else float(k)


def _reduce(group: list[dict]) -> dict:
    mean = [r for r in group if r.get("seed") == "mean"]
    if mean:
        return mean[0]
    if len(group) == 1:
        return group[0]
    value = sum(r["value"] for r in group) / len(group)
    return {**group[0], "value": value, "low": None, "high": None, "p_value": None, "seed": "mean"}
