"""What became of one feature."""

import dataclasses

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature
from trainer.feedback.drift_window import Window
from trainer.feedback.feature_cells import MISSING, Histogram, feature_histogram, number_histogram, word_weights
from trainer.feedback.population_stability import compare_histograms

_SHOWN_CELLS = 12
OTHER = "(other)"


@dataclasses.dataclass(frozen=True)
class FeatureDrift:
    """One feature in the reference and the current window.

    Attributes:
      side, name, kind: of the feature.
      psi: population stability index; of a vector that of the dimension that moved most; of a text that of the word
        that moved most, as texts with and without it.
      noise: what chance alone is expected to make of it (`Stability`).
      above_noise: `psi - noise`, at least 0: what the verdict goes by.
      p_value: chi-square test of homogeneity; in a report corrected for all comparisons in it (Holm); None where there
        is nothing to test.
      cells: of the histogram, rare ones pooled.
      n_reference, n_current: users behind it.
      missing_reference, missing_current: share without a value.
      verdict: `stable`, `moderate` or `shifted`.
      histogram: (cell, share in the reference, share in the current window), those that moved most first where
        there are more than a dozen; of a text the shares of texts with a word, which do not sum to 1.
    """

    side: str
    name: str
    kind: str
    psi: float
    noise: float
    above_noise: float
    p_value: float | None
    cells: int
    n_reference: int
    n_current: int
    missing_reference: float
    missing_current: float
    verdict: str = "stable"
    histogram: tuple[tuple[str, float, float], ...] = ()

    @property
    def title(self) -> str:
        """What people call it, such as `users' country`."""
        return f"{self.side}s' {self.name}" if self.side else self.name


def feature_drift(feature: Feature, *, side: str, reference: Window, current: Window) -> FeatureDrift:
    """Compares a feature of users, or of the items that users interacted with, in two windows.

    A window that has no such column has nothing but missing values.
    """
    windows = []
    for window in (reference, current):
        frame, weights = window.entities(side)
        values = frame[feature.name] if feature.name in frame else pd.Series([None] * len(frame), dtype=object)
        windows.append((values, weights))
    if feature.kind == "dense_vector":
        return _vector_drift(feature, side, windows)
    if feature.kind == "text":
        return _text_drift(feature, side, windows)
    return histogram_drift(feature_histogram(feature, windows), side=side, name=feature.name, kind=feature.kind)


def histogram_drift(histogram: Histogram, *, side: str, name: str, kind: str) -> FeatureDrift:
    """Returns the comparison of a histogram's two sides; the verdict is the report's affair."""
    names, reference, current = histogram
    found = compare_histograms(reference, current)
    n, m = reference.sum(), current.sum()
    shares = [w / max(w.sum(), 1e-12) for w in (reference, current)]
    missing = [float(s[names.index(MISSING)]) if MISSING in names else 0.0 for s in shares]
    return FeatureDrift(
        side=side, name=name, kind=kind, psi=found.psi, noise=found.noise, above_noise=found.above_noise,
        p_value=None if np.isnan(found.p_value) else found.p_value, cells=found.cells, n_reference=round(n),
        n_current=round(m), missing_reference=missing[0], missing_current=missing[1],
        histogram=_shown(names, *shares, ordered=kind in ("numeric", "dense_vector", "label")))


def _vector_drift(feature: Feature, side: str, windows: list[tuple[pd.Series, np.ndarray]]) -> FeatureDrift:
    matrices = [np.stack([np.asarray(v, np.float64) if v is not None and np.size(v) == feature.length
                          else np.full(feature.length, np.nan) for v in values] or [np.zeros(feature.length)])[:len(w)]
                for values, w in windows]
    drifts = [histogram_drift(number_histogram([(matrix[:, i], w) for matrix, (_, w) in
                                                zip(matrices, windows, strict=True)]),
                              side=side, name=feature.name, kind=feature.kind) for i in range(feature.length)]
    return _worst(drifts)


def _text_drift(feature: Feature, side: str, windows: list[tuple[pd.Series, np.ndarray]]) -> FeatureDrift:
    """Compares which words texts have: the shares of single words are too small for one histogram."""
    words, reference, current = word_weights(windows)
    n, m = (float(weights.sum()) for _, weights in windows)
    drifts = [histogram_drift(([word, "without"], np.array([a, max(0.0, n - a)]), np.array([b, max(0.0, m - b)])),
                              side=side, name=feature.name, kind=feature.kind)
              for word, a, b in zip(words, reference, current, strict=True)]
    missing = drifts[0]
    return dataclasses.replace(
        _worst(drifts), missing_reference=missing.missing_reference, missing_current=missing.missing_current,
        histogram=_shown(words, reference / max(n, 1e-12), current / max(m, 1e-12), ordered=False, rest=False))


def _worst(drifts: list[FeatureDrift]) -> FeatureDrift:
    """Returns the one that moved most, its p-value corrected for having been chosen for that."""
    worst = max(drifts, key=lambda d: (d.above_noise, d.p_value is not None, d.psi))
    tested = [d.p_value for d in drifts if d.p_value is not None]
    return worst if worst.p_value is None else dataclasses.replace(worst, p_value=min(1.0, worst.p_value * len(tested)))


def _shown(names: list[str], reference: np.ndarray, current: np.ndarray, *,
           ordered: bool, rest: bool = True) -> tuple[tuple[str, float, float], ...]:
    rows = list(zip(names, reference.tolist(), current.tolist(), strict=True))
    rows = [row for row in rows if row[1] > 0 or row[2] > 0]
    if not ordered:
        rows.sort(key=lambda r: -max(r[1], r[2]))
    if len(rows) <= _SHOWN_CELLS:
        return tuple(rows)
    rows.sort(key=lambda r: -abs(r[1] - r[2]))
    if not rest:
        return tuple(rows[:_SHOWN_CELLS])
    left = rows[_SHOWN_CELLS - 1:]
    return (*rows[:_SHOWN_CELLS - 1], (OTHER, sum(r[1] for r in left), sum(r[2] for r in left)))
