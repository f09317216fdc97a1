"""The gain from adaptation over time."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from tfmeta.errors import DataError
from tfmeta.io import filesystem
from tfmeta.metrics import lower_is_better
from trainer.feedback.population_stability import LEAST_UNITS

COLUMNS = ("period", "state", "metric", "gain", "low", "high", "users")
_STATES = ("user_cold", "both_cold", "item_cold", "warm")
# A gain that has lost this share of what it was at first has shifted.
_LOST = 0.5
_Z = 1.96


@dataclasses.dataclass(frozen=True)
class GainTrend:
    """Adapted minus unadapted, period by period, turned so that more is better.

    Attributes:
      state, metric: what the verdict goes by: user-cold where there is such a state, the report's first metric.
      points: one mapping a period, oldest first: `period, gain, low, high` (the last two None where unknown).
      lost: gain of the first period minus that of the last.
      p_value: one-sided normal test of `lost`, from the intervals; None without them.
      verdict: `stable`, `moderate` (less than at first) or `shifted` (half of it or more is gone).
    """

    state: str
    metric: str
    points: tuple[dict[str, Any], ...]
    lost: float
    p_value: float | None
    verdict: str = "stable"


def read_gains(runs: Iterable[str]) -> pd.DataFrame:
    """Reads the gains of evaluated runs.

    Args:
      runs: run directories with evaluation.json, in any order.

    Returns:
      A row per run, state and metric: `period` (when it was evaluated, ISO 8601), `state`, `metric` (without `gain_`),
      `gain` as evaluated (adapted minus unadapted, all support), `low`, `high`, `users`, and `run`.

    Raises:
      DataError: if a run has no evaluation, or one without gains.
    """
    from trainer.evaluation.results_file import read_json
    from trainer.report.result_rows import ResultRows

    rows = []
    for run in runs:
        path = filesystem.join(run, "evaluation.json") if filesystem.is_dir(run) else run
        if not filesystem.exists(path):
            raise DataError(f"Run '{run}' requires evaluation.json. Make it with 'tfmeta evaluate --run {run}'.")
        content = read_json(path)
        try:
            table = ResultRows.of(content["rows"])
        except DataError as error:
            raise DataError(f"'{path}': {error}") from None
        before = len(rows)
        for state in table.states:
            for model in table.models(state, "learner")[:1]:
                for metric in table.metrics(state):
                    gain = table.gain(state, model, metric)
                    if gain is not None:
                        rows.append({"run": run, "period": content["environment"].get("date", run), "state": state,
                                     "metric": metric, "gain": gain["value"], "low": gain.get("low"),
                                     "high": gain.get("high"), "users": gain.get("users")})
        if len(rows) == before:
            raise DataError(f"'{path}' requires rows of a learner at k = 0 and more, it has none. Evaluate the run "
                            "again.")
    return pd.DataFrame(rows, columns=["run", *COLUMNS])


def gain_trend(gains: pd.DataFrame | None, *, alpha: float) -> GainTrend | None:
    """Returns how the gain went; None with fewer than two periods.

    Args:
      gains: `period, state, metric, gain` and, where known, `low, high` of its 95 % interval; `read_gains` makes it.
      alpha: level of the test.

    Raises:
      DataError: if a column is missing.
    """
    if gains is None or not len(gains):
        return None
    for name in COLUMNS[:4]:
        if name not in gains:
            raise DataError(f"Gains require the columns {', '.join(COLUMNS[:4])}, received {list(gains.columns)}.")
    from trainer.report.result_rows import METRIC_ORDER

    states = gains["state"].unique().tolist()
    state = next((s for s in _STATES if s in states), states[0])
    mine = gains[gains["state"] == state]
    metrics = mine["metric"].unique().tolist()
    metric = next((m for m in METRIC_ORDER if m in metrics), metrics[0])
    mine = mine[mine["metric"] == metric].sort_values("period", kind="stable")
    mine = mine.drop_duplicates("period", keep="last")
    if len(mine) < 2:
        return None
    points = tuple(_point(row, turned=lower_is_better(metric)) for row in mine.to_dict("records"))
    first, last = points[0], points[-1]
    lost = first["gain"] - last["gain"]
    spread = [(p["high"] - p["low"]) / (2 * _Z) for p in (first, last) if p["low"] is not None]
    p_value = None
    if len(spread) == 2:
        both = float(np.hypot(*spread))
        p_value = float(scipy.stats.norm.sf(lost / both)) if both > 0 else float(lost <= 0)
    verdict = "stable"
    few = any(p["users"] is not None and p["users"] < LEAST_UNITS for p in (first, last))
    if p_value is not None and p_value < alpha and not few:
        verdict = "shifted" if lost >= _LOST * first["gain"] else "moderate"
    return GainTrend(state, metric, points, lost, p_value, verdict)


def _point(row: dict[str, Any], *, turned: bool) -> dict[str, Any]:
    def number(name):
        value = row.get(name)
        return None if value is None or pd.isna(value) else float(value)

    gain, low, high = float(row["gain"]), number("low"), number("high")
    if low is None or high is None:
        low = high = None
    elif turned:
        low, high = -high, -low
    return {"period": str(row["period"]), "gain": -gain if turned else gain, "low": low, "high": high,
            "users": None if number("users") is None else int(number("users"))}
