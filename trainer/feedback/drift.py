"""Compares two windows of time: features, label, what is new, and the gain from adaptation."""

import dataclasses

import numpy as np
import pandas as pd

from tfmeta.config import require
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import DataError, suggest
from tfmeta.metrics.significance import holm
from trainer.feedback.cold_share import ColdShare, cold_share
from trainer.feedback.drift_report import DriftReport
from trainer.feedback.drift_window import Window
from trainer.feedback.event_schema import natural_spec
from trainer.feedback.feature_drift import FeatureDrift, feature_drift
from trainer.feedback.gain_trend import GainTrend, gain_trend
from trainer.feedback.label_drift import LabelDrift, label_drift
from trainer.feedback.population_stability import LEAST_UNITS, MODERATE, SHIFTED, verdict_of
from trainer.report.words import metric_name

__all__ = ["Window", "drift_report"]

ALPHA = 0.01
_ORDER = ("stable", "moderate", "shifted")
_REQUIRED = {"users": ("user_id",), "items": ("item_id",), "interactions": ("user_id", "item_id", "label")}


def drift_report(reference: Window, current: Window, *, feature_spec: FeatureSpec, gains: pd.DataFrame | None = None,
                 alpha: float = ALPHA) -> DriftReport:
    """Says whether, and in what, the current window differs from the reference.

    The unit of every comparison is the user. A part has moved where the population stability index (less what chance
    is expected to make of it) reaches .1 (moderate) or .25 (shifted) **and** a test rejects that nothing changed,
    corrected for the number of comparisons (Holm). So small windows do not cry drift; they may well miss one.

    Args:
      reference, current: the windows.
      feature_spec: names and kinds of the features; its vocabularies and statistics are not looked at.
      gains: the gain from adaptation by periods, see `gain_trend`.
      alpha: level of the tests, all together.

    Raises:
      DataError: if a window lacks a column or both lack a feature.
    """
    require(0 < alpha < 1, "alpha", "a level between 0 and 1", alpha)
    spec = natural_spec(feature_spec)
    for name, window in (("reference", reference), ("current", current)):
        _check(name, window)
    features = []
    for side, declared in (("user", spec.user_features), ("item", spec.item_features)):
        names = {str(c) for w in (reference, current) for c in getattr(w, f"{side}s").columns}
        for feature in declared:
            if feature.name not in names:
                raise DataError(f"Feature '{feature.name}' of {side}s requires a column in the windows, received "
                                f"columns {sorted(names)}.{suggest(feature.name, names)}")
            features.append(feature_drift(feature, side=side, reference=reference, current=current))
    label = label_drift(spec.label, reference=reference, current=current)
    cold, gain = cold_share(reference, current), gain_trend(gains, alpha=alpha)
    features, label, cold = _judge(features, label, cold, alpha)
    summaries = reference.summary(), current.summary()
    verdict, reasons = _conclude(features, label, cold, gain, least=min(s["users"] for s in summaries))
    return DriftReport(reference=summaries[0], current=summaries[1], features=tuple(features), label=label, cold=cold,
                       gain=gain, verdict=verdict, reasons=tuple(reasons), alpha=alpha)


def _check(name: str, window: Window) -> None:
    for table, columns in _REQUIRED.items():
        present = list(getattr(window, table).columns)
        for column in columns:
            if column not in present:
                raise DataError(f"The {table} of the {name} window require column '{column}', received {present}."
                                f"{suggest(column, present)}")


def _judge(features: list[FeatureDrift], label: LabelDrift | None, cold: ColdShare, alpha: float):
    """Corrects the p-values of all comparisons together and gives each its verdict."""
    tested = [*features, *([label.stability] if label else [])]
    values = [d.p_value for d in tested] + [cold.p_value]
    corrected = holm(np.array([np.nan if p is None else p for p in values]))
    judged = [dataclasses.replace(d, p_value=None if np.isnan(p) else float(p),
                                  verdict=verdict_of(d.above_noise, p, alpha=alpha))
              for d, p in zip(tested, corrected[:-1], strict=True)]
    cold = dataclasses.replace(cold, p_value=None if np.isnan(corrected[-1]) else float(corrected[-1]),
                               verdict=verdict_of(cold.excess, corrected[-1], alpha=alpha))
    if label is not None:
        label = dataclasses.replace(label, stability=judged.pop())
    return judged, label, cold


def _conclude(features: list[FeatureDrift], label: LabelDrift | None, cold: ColdShare, gain: GainTrend | None, *,
              least: int) -> tuple[str, list[str]]:
    parts = [(d.verdict, d.above_noise, _of_feature(d)) for d in features]
    if label is not None:
        parts.append((label.stability.verdict, label.stability.above_noise, _of_label(label)))
    parts.append((cold.verdict, cold.excess, _of_cold(cold)))
    if gain is not None:
        parts.append((gain.verdict, 0.0, _of_gain(gain)))
    parts.sort(key=lambda p: (-_ORDER.index(p[0]), -p[1]))
    moved = [text for verdict, _, text in parts if verdict != "stable"]
    if moved:
        return parts[0][0], moved
    if least < LEAST_UNITS:
        return "none", [f"too few users to tell: {least} in the smaller window, {LEAST_UNITS} are required"]
    compared = [d for d in features] + ([label.stability] if label else [])
    if not compared:
        return "none", ["nothing to compare: no features and no labels"]
    most = max(compared, key=lambda d: d.above_noise)
    why = ("chance explains it" if most.above_noise >= MODERATE
           else f"below {MODERATE:g} once chance is allowed for")
    return "none", [f"{most.title} moved most: PSI {most.psi:.3f}, {most.noise:.3f} of it expected by chance; {why}"]


def _of_feature(drift: FeatureDrift) -> str:
    text = f"{drift.title} {drift.verdict}: PSI {drift.psi:.3f}, {drift.noise:.3f} of it expected by chance"
    if abs(drift.missing_current - drift.missing_reference) >= MODERATE:
        text += f"; missing {drift.missing_reference:.0%} before, {drift.missing_current:.0%} now"
    elif drift.histogram:
        name, before, now = max(drift.histogram, key=lambda c: abs(c[1] - c[2]))
        text += f"; most in '{name}', {before:.0%} before, {now:.0%} now"
    return text


def _of_label(label: LabelDrift) -> str:
    text = _of_feature(label.stability)
    interval = "" if label.low is None else f" ({label.low:+.3f} to {label.high:+.3f})"
    return f"label {text}; mean {label.mean_shift:+.3f}{interval}"


def _of_cold(cold: ColdShare) -> str:
    return (f"unseen items {cold.verdict}: {cold.interactions:.0%} of interactions, {cold.expected:.0%} expected "
            f"without change; the excess is measured against {MODERATE:g} and {SHIFTED:g}")


def _of_gain(gain: GainTrend) -> str:
    first, last = gain.points[0], gain.points[-1]
    return (f"gain from adaptation {gain.verdict}: {first['gain']:+.4f} {metric_name(gain.metric)} in "
            f"{first['period']}, {last['gain']:+.4f} in {last['period']}")
