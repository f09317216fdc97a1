"""Whether to refresh, and whether the refreshed model takes over."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmeta.data.label import Label
from tfmeta.metrics import lower_is_better
from tfmeta.metrics.significance import bootstrap_interval, wilcoxon
from trainer.feedback.refresh_config import RefreshConfig

_ORDER = ("none", "moderate", "shifted")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided and why.

    Attributes:
      go_on: refresh, or take the refreshed model.
      reasons: in words.
    """

    go_on: bool
    reasons: tuple[str, ...]


def deciding_metric(label: Label, config: RefreshConfig) -> str:
    """Returns the metric that decides."""
    return config.metric or ("mae" if label.unit == "rating" else "auc")


def gain(metric: str, *, adapted: float, unadapted: float) -> float:
    """Returns the gain from adaptation, positive where adapting is better."""
    return unadapted - adapted if lower_is_better(metric) else adapted - unadapted


def is_needed(*, verdict: str, drift_reasons: Sequence[str], gain_now: float, gain_then: float | None,
              config: RefreshConfig, force: bool = False) -> Decision:
    """Decides before training, by the drift report and by what the last run still gains from adapting.

    Args:
      verdict: of the drift report.
      drift_reasons: of the drift report.
      gain_now: the last run's gain from adaptation on the newest users.
      gain_then: that of its own evaluation; None where it has none, then any gain counts as held.
      config: thresholds.
      force: refresh in any case.
    """
    reasons = []
    drifted = _ORDER.index(verdict) >= _ORDER.index(config.drift)
    if drifted:
        reasons += [f"drift is {verdict}: {'; '.join(drift_reasons) or 'no reasons given'}"]
    least = 0.0 if gain_then is None else config.hold_share * max(gain_then, 0.0)
    lost = not gain_now > 0 or gain_now < least
    then = "which nobody measured before" if gain_then is None else f"{gain_then:.4f} in its own evaluation"
    text = f"gain from adaptation is {gain_now:.4f} on the newest users, {then}"
    if lost:
        reasons.append(f"{text}; {config.hold_share:.0%} of it was to be held")
    if force and not reasons:
        reasons.append("asked for although nothing has changed")
    if not reasons:
        return Decision(False, (f"drift is {verdict}", text))
    return Decision(True, tuple(reasons))


def is_better(before: np.ndarray, after: np.ndarray, *, metric: str, gate_reasons: Sequence[str],
              config: RefreshConfig) -> tuple[Decision, dict[str, Any]]:
    """Decides after training.

    Args:
      before, after: `[U]` values of the old and of the refreshed model for the same users; NaN where undefined.
      metric: that decides.
      gate_reasons: why the gate keeps the model back; none if it does not.
      config: thresholds.

    Returns:
      the decision, and the comparison: `improvement` (positive is better) with its 95 % bootstrap interval `low, high`,
      `p_value` of the Wilcoxon signed-rank test, `users`.
    """
    difference = np.asarray(before - after if lower_is_better(metric) else after - before, np.float64)
    known = difference[~np.isnan(difference)]
    mean = float(known.mean()) if len(known) else float("nan")
    (low,), (high,) = bootstrap_interval(difference[:, None], seed=config.seed)
    comparison = {"metric": metric, "improvement": mean, "low": float(low), "high": float(high),
                  "p_value": float(wilcoxon(difference)), "users": len(known)}
    comparison = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in comparison.items()}
    words = (f"{metric} of {len(known)} users is better by {mean:.4f} ({low:.4f} to {high:.4f}) than before")
    reasons = [f"the gate: {reason}" for reason in gate_reasons]
    if not mean > config.min_improvement:
        reasons.insert(0, f"{words}, more than {config.min_improvement:g} is required")
    if reasons:
        return Decision(False, tuple(reasons)), comparison
    return Decision(True, (words,)), comparison
