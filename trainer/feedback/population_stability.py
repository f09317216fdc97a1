"""The population stability index, what chance alone makes of it, and when it is more than that."""

import dataclasses

import numpy as np
import scipy.stats

# Siddiqi, "Credit Risk Scorecards" (2006): below .1 no change, from .25 on a shift. A convention of credit scoring,
# without a derivation; what chance makes of the index in windows of a given size is subtracted before it is applied.
MODERATE, SHIFTED = 0.1, 0.25
# Rarer cells are pooled: a share of both windows together, and what the smaller window is expected to have (the usual
# least count of a chi-square test).
LEAST_SHARE, LEAST_COUNT = 0.01, 5.0
# With fewer units no histogram says anything.
LEAST_UNITS = 20


@dataclasses.dataclass(frozen=True)
class Stability:
    """Two histograms of `C` cells compared.

    Attributes:
      psi: population stability index, sum of (p - q) log(p / q) over the cells; 0 is equal.
      noise: its expectation where nothing changed, (C - 1) (1/n + 1/m).
      p_value: of Pearson's chi-square test of homogeneity; NaN where there are too few units or one cell.
      cells: C, rare ones pooled.
      pooled: `[cells before]` index of the cell that each became; the pooled ones share the last.
    """

    psi: float
    noise: float
    p_value: float
    cells: int
    pooled: np.ndarray

    @property
    def above_noise(self) -> float:
        """The index without what chance is expected to contribute, at least 0."""
        return max(0.0, self.psi - self.noise)


def population_stability(reference: np.ndarray, current: np.ndarray, *, floor: float) -> float:
    """Returns the population stability index of two histograms, symmetric in them.

        PSI = sum_i (p_i - q_i) log(p_i / q_i)

    that is the sum of both Kullback-Leibler divergences (Jeffreys 1946). It is never negative, and 0 for equal
    histograms.

    Args:
      reference, current: `[C]` shares, each summing to 1.
      floor: positive; a smaller share counts as this, in both alike, since an empty cell would make the index
        infinite.
    """
    p, q = np.maximum(reference, floor), np.maximum(current, floor)
    return float(np.sum((p - q) * np.log(p / q)))


def expected_by_chance(cells: int, *, reference: float, current: float) -> float:
    """Returns the expectation of the index where both windows come from one distribution.

    To first order PSI is (1/n + 1/m) times a chi-square variable with C - 1 degrees of freedom (Yurdakul and Naranjo,
    "Statistical properties of the population stability index", Journal of Risk Model Validation 2020).

    Args:
      cells: C.
      reference, current: n and m, independent units in each window.
    """
    return (cells - 1) * (1.0 / reference + 1.0 / current)


def compare_histograms(reference: np.ndarray, current: np.ndarray) -> Stability:
    """Compares two histograms of counts, or of weights of units that each weigh 1 in all.

    A unit may be spread over several cells (a user over the genres that they rated): its spread has at most the
    variance of a draw from it, so the test and the noise are then on the careful side.

    Args:
      reference, current: `[C]` float64, at least 0.
    """
    n, m = float(reference.sum()), float(current.sum())
    least = min(n, m)
    if least < 1e-9:
        return Stability(0.0, 0.0, float("nan"), 0, np.zeros(len(reference), np.int64))
    pooled = _pool((reference + current) / (n + m), limit=max(LEAST_SHARE, LEAST_COUNT / least))
    cells = int(pooled.max()) + 1
    observed = np.stack([np.bincount(pooled, weights=w, minlength=cells) for w in (reference, current)])
    psi = population_stability(observed[0] / n, observed[1] / m, floor=0.5 / least)
    if cells < 2 or least < LEAST_UNITS:
        p_value = float("nan")
    else:
        expected = observed.sum(axis=0) * np.array([[n], [m]]) / (n + m)
        p_value = float(scipy.stats.chi2.sf(np.sum((observed - expected) ** 2 / expected), cells - 1))
    return Stability(psi, expected_by_chance(cells, reference=n, current=m), p_value, cells, pooled)


def _pool(share: np.ndarray, *, limit: float) -> np.ndarray:
    """Returns `[C]` the new cell of each: those under the limit share the last, joined by the next if that is not
    enough.
    """
    order = np.argsort(-share, kind="stable")
    rare = share[order] < limit
    if rare.any() and share[order][rare].sum() < limit and not rare.all():
        rare[np.flatnonzero(~rare)[-1]] = True
    kept = int((~rare).sum())
    pooled = np.empty(len(share), np.int64)
    pooled[order] = np.where(rare, kept, np.cumsum(~rare) - 1)
    return pooled


def verdict_of(psi_above_noise: float, p_value: float, *, alpha: float) -> str:
    """Returns `stable`, `moderate` or `shifted`: a change that is large enough and that chance does not explain.

    Args:
      psi_above_noise: see `Stability`.
      p_value: corrected for the number of comparisons; NaN is no evidence.
      alpha: the share of quiet windows in which something may be called moderate or shifted.
    """
    if not p_value < alpha or psi_above_noise < MODERATE:
        return "stable"
    return "shifted" if psi_above_noise >= SHIFTED else "moderate"
