"""Whether to refresh, and whether the refreshed model takes over."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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


def gain(metric: str, *, adapted: float, unadapted: float) -> float:
    """Returns the gain from adaptation, positive where adapting is better."""
    return unadapted - adapted if lower_is_better(metric) else adapted - unadapted


def is_needed(*, verdict: str, drift_reasons: Sequence[str], now: Mapping[str, float],
              then: Mapping[str, float] | None, metric: str, config: RefreshConfig, force: bool = False) -> Decision:
    """Decides before training, by the drift report and by how the last run does on the newest users.

    A drift report sees how users, items and labels are distributed. That people have come to like other items, with the
    same features, only the model's own figures show.

    Args:
      verdict: of the drift report.
      drift_reasons: of the drift report.
      now: `value` of the metric and `gain` from adaptation of the last run on the newest users.
      then: those of its own evaluation; without them nobody can say that it holds them.
      metric: that decides.
      config: thresholds.
      force: refresh in any case.
    """
    reasons, held = [], []
    if _ORDER.index(verdict) >= _ORDER.index(config.drift):
        reasons.append(f"drift is {verdict}: {'; '.join(drift_reasons) or 'no reasons given'}")
    else:
        held.append(f"drift is {verdict}")
    if then is None:
        reasons.append("the last run has no evaluation of new users that it could hold; 'tfmeta evaluate' makes one")
    else:
        text = (f"gain from adaptation is {now['gain']:.4f} on the newest users, {then['gain']:.4f} in its own "
                "evaluation")
        lost = not now["gain"] >= config.hold_share * then["gain"] or not now["gain"] > 0
        (reasons if lost else held).append(f"{text}, of which {config.hold_share:.0%} was to be held" if lost else text)
        text = f"{metric} is {now['value']:.4f} on the newest users, {then['value']:.4f} in its own evaluation"
        worse = then["value"] - now["value"] if not lower_is_better(metric) else now["value"] - then["value"]
        declined = not worse <= config.max_decline * abs(then["value"])
        (reasons if declined else held).append(f"{text}, worse by more than {config.max_decline:.0%}" if declined
                                               else text)
    if force and not reasons:
        reasons.append("asked for although nothing has changed")
    return Decision(bool(reasons), tuple(reasons or held))


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
