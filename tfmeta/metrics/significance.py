"""Intervals and tests over users."""

import numpy as np


def bootstrap_interval(values: np.ndarray, *, seed: int = 0, resamples: int = 2000,
                       level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap of means over users (Efron, 1979), the same resamples for every column.

    Because all columns share the resampled users, an interval of a column of differences is a paired one.

    Args:
      values: `[U, M]` a column a quantity; NaN where a user does not count.
      seed: of the resampling; the same seed and U give the same resamples.
      resamples: number of resamples.
      level: probability mass of the interval.

    Returns:
      (low `[M]`, high `[M]`) float64; NaN for a column without values.
    """
    values = np.asarray(values, np.float64)
    users, columns = values.shape
    if not users:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    rng = np.random.default_rng([seed, users])
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    complete = known.all(axis=0)
    means = np.empty((resamples, columns))
    step = max(1, (1 << 24) // users)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(0, users, (size, users)) + np.arange(size)[:, None] * users
        count = np.bincount(drawn.ravel(), minlength=size * users).reshape(size, users).astype(np.float64)
        block = count @ filled
        weight = np.full(block.shape, float(users))
        if not complete.all():
            weight[:, ~complete] = count @ known[:, ~complete]
        means[start:start + size] = np.where(weight > 0, block / np.where(weight > 0, weight, 1.0), np.nan)
    tail = (1.0 - level) / 2.0
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    some = known.any(axis=0)
    if some.any():
        low[some], high[some] = np.nanquantile(means[:, some], [tail, 1.0 - tail], axis=0)
    return low, high


def wilcoxon(first: np.ndarray, second: np.ndarray | float = 0.0) -> float:
    """Two-sided p-value of the paired signed-rank test (Wilcoxon, 1945), normal approximation.

    Zero differences take part in the ranking (Pratt, 1959), users with a NaN do not count.

    Args:
      first, second: `[U]` values of the same users.

    Returns:
      the p-value; 1 where all differences are zero, NaN for fewer than two users.
    """
    import scipy.stats

    difference = np.asarray(first, np.float64) - second
    difference = difference[~np.isnan(difference)]
    if difference.size < 2:
        return float("nan")
    if not difference.any():
        return 1.0
    return float(scipy.stats.wilcoxon(difference, zero_method="pratt", method="approx").pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjusts a family of p-values (Holm, "A simple sequentially rejective multiple test procedure", 1979).

    Args:
      p_values: `[M]`; NaN (no test) stays NaN and is not counted.

    Returns:
      `[M]` adjusted p-values: rejecting those at or below alpha keeps the family-wise error at alpha.
    """
    p_values = np.asarray(p_values, np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    index = np.flatnonzero(~np.isnan(p_values))
    order = index[np.argsort(p_values[index], kind="stable")]
    scaled = p_values[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(order) else scaled
    return adjusted
