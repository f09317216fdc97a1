"""What became of the label."""

import dataclasses

import numpy as np
import pandas as pd
import scipy.stats

from tfmeta.data.label import Label
from trainer.feedback.drift_window import Window
from trainer.feedback.feature_cells import level_histogram, number_histogram
from trainer.feedback.feature_drift import FeatureDrift, histogram_drift

_MAX_LEVELS = 20


@dataclasses.dataclass(frozen=True)
class LabelDrift:
    """The label in the reference and the current window, every user counting once.

    Attributes:
      stability: the histogram's comparison, with its verdict.
      mean_reference, mean_current: mean of the users' means, in the label's unit.
      mean_shift, low, high: their difference and its 95 % interval (Welch); NaN-free, None where a window has fewer
        than two users.
      ks: largest difference of the two distribution functions.
      ks_p_value: its asymptotic p-value with users as the sample, so on the careful side.
    """

    stability: FeatureDrift
    mean_reference: float
    mean_current: float
    mean_shift: float
    low: float | None
    high: float | None
    ks: float
    ks_p_value: float


def label_drift(label: Label, *, reference: Window, current: Window) -> LabelDrift | None:
    """Compares the labels of two windows; None where one has no interactions."""
    if not len(reference.interactions) or not len(current.interactions):
        return None
    windows = [(w.interactions["label"].to_numpy(np.float64), w.user_weights()) for w in (reference, current)]
    levels = np.unique(np.concatenate([values for values, _ in windows]))
    histogram = level_histogram(windows) if len(levels) <= _MAX_LEVELS else number_histogram(windows)
    means = [w.interactions.groupby("user_id", sort=False)["label"].mean().to_numpy(np.float64)
             for w in (reference, current)]
    shift = float(means[1].mean() - means[0].mean())
    low = high = None
    if min(map(len, means)) > 1:
        spread = float(np.sqrt(sum(m.var(ddof=1) / len(m) for m in means)))
        low, high = shift - 1.96 * spread, shift + 1.96 * spread
    ks, p_value = _kolmogorov_smirnov(windows)
    return LabelDrift(stability=histogram_drift(histogram, side="", name=label.name, kind="label"),
                      mean_reference=float(means[0].mean()), mean_current=float(means[1].mean()), mean_shift=shift,
                      low=low, high=high, ks=ks, ks_p_value=p_value)


def _kolmogorov_smirnov(windows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Returns the statistic over weighted samples and its asymptotic p-value for their total weights."""
    frame = pd.concat([pd.DataFrame({"value": values, side: weights / weights.sum()})
                       for side, (values, weights) in enumerate(windows)], ignore_index=True)
    steps = frame.groupby("value").sum().sort_index()
    statistic = float((steps[0].cumsum() - steps[1].cumsum()).abs().max())
    n, m = (float(weights.sum()) for _, weights in windows)
    return statistic, float(scipy.stats.kstwobign.sf(statistic * np.sqrt(n * m / (n + m))))
