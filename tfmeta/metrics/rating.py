"""Point-wise metrics per task: `score [T, Q]`, `label [T, Q]`, `length [T]` -> `[T]` float64, NaN if Q is 0."""

import numpy as np

from tfmeta.metrics.ranked_list import check


def mae(score, label, length, *, minimum: float, maximum: float) -> np.ndarray:
    """Mean absolute error of the scores clipped to the label's range."""
    score, label, real = check(score, label, length)
    return _mean(np.abs(np.clip(score, minimum, maximum) - label), real)


def mse(score, label, length, *, minimum: float, maximum: float) -> np.ndarray:
    """Mean squared error of the clipped scores; `rmse` is its root, the pooled RMSE the root of its mean."""
    score, label, real = check(score, label, length)
    return _mean((np.clip(score, minimum, maximum) - label) ** 2, real)


def rmse(score, label, length, *, minimum: float, maximum: float) -> np.ndarray:
    """Root of the mean squared error within each task."""
    return np.sqrt(mse(score, label, length, minimum=minimum, maximum=maximum))


def pooled_rmse(score, label, length, *, minimum: float, maximum: float) -> float:
    """Root mean squared error over all query items of all tasks, clipped scores."""
    weight = np.asarray(length, np.float64)
    total = np.nansum(mse(score, label, length, minimum=minimum, maximum=maximum) * weight)
    return float(np.sqrt(total / weight.sum())) if weight.sum() else float("nan")


def nearest_level(score: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Rounds scores to the nearest of `levels` (ascending), halfway to the lower one: a point prediction's median."""
    levels = np.asarray(levels, np.float64)
    middle = (levels[1:] + levels[:-1]) / 2.0
    return levels[np.searchsorted(middle, score, side="left")]


def accuracy(score, label, length, *, threshold: float, cut: float) -> np.ndarray:
    """Share of items with (score >= cut) = (label >= threshold)."""
    score, label, real = check(score, label, length)
    return _mean(((score >= cut) == (label >= threshold)).astype(np.float64), real)


def logloss(score, label, length, *, threshold: float, epsilon: float = 1e-7) -> np.ndarray:
    """Mean of -log P(observed class), natural logarithm; probabilities are clipped to [epsilon, 1 - epsilon]."""
    score, label, real = check(score, label, length)
    probability = np.clip(score, epsilon, 1.0 - epsilon)
    return _mean(-np.log(np.where(label >= threshold, probability, 1.0 - probability)), real)


def _mean(values: np.ndarray, real: np.ndarray) -> np.ndarray:
    count = real.sum(axis=1)
    return np.where(count > 0, np.where(real, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
