"""What content alone says of how people will rate an item."""

import dataclasses
from typing import Self

import numpy as np
import pandas as pd
import scipy.linalg

from tfmeta.content.content_kernel import ContentKernel
from tfmeta.content.content_profile_config import ContentProfileConfig
from tfmeta.content.item_targets import ItemTargets
from tfmeta.data.feature import Feature

# Noise of a target beside that of its finite number of interactions, relative to the target's variance.
_NUGGETS = (0.03, 0.1, 0.3, 1.0, 3.0)
_FACTORS = (0.3, 3.0)
# Items predicted at once: a block's similarities take no more memory than those of the fitted items.
_BLOCK = 4096
# Prior variance of what all items share, their mean.
_CONSTANT = 0.1


@dataclasses.dataclass(frozen=True)
class ContentProfile:
    """Predicts an item's bias and collaborative factors from the items that are like it in content.

    A Gaussian process (kernel ridge regression) over items, `f ~ GP(0, sum_j a_j k_j)` with one similarity k_j a
    feature, is fitted to what training interactions say of each item: its damped rating bias, and its vector in a
    matrix factorisation. An item's profile is the posterior mean *without its own interactions*: for fitted items the
    leave-one-out prediction `y_i - [K^-1 y]_i / [K^-1]_ii`, for all others the plain one. So a network that reads the
    profile finds it as informative for a cold item as for those it was trained on, and cannot learn to trust content
    more than it deserves, which is what happens to embeddings of people and words on a few thousand items.

    Columns: the bias predicted from all features; its posterior standard deviation; the bias predicted from each
    feature alone (a generalisation of leave-one-out target encoding); each factor predicted from all features. Weights
    a_j and the noise are chosen by leave-one-out error among the fitted items.

    Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, sections 2.2 and 5.4.2 (equation
    5.12, leave-one-out). Mapping content to factors: Gantner et al., "Learning Attribute-to-Feature Mappings for
    Cold-Start Recommendations", ICDM 2010.

    Attributes:
      kernels: one a feature.
      weights: a_j `[J]`.
      nuggets: noise of bias and factors, relative to the kernel's scale.
      inducing: encoded fitted items, one a kernel.
      solution: `[F, 1 + factors]`, `K^-1 y` of bias and factors for all features together.
      alone: `[F, J]`, that of the bias for each feature alone.
      root: `[F, F]` R of the bias's `K^-1 = R' R`, for the standard deviation.
      table: `[I, width]`, the profiles of the items given to `fit`, leave-one-out where due.
      explained: share of the bias's variance that content explains, leave-one-out.
    """

    kernels: tuple[ContentKernel, ...]
    weights: np.ndarray
    nuggets: tuple[float, float]
    inducing: tuple
    solution: np.ndarray
    alone: np.ndarray
    root: np.ndarray
    table: np.ndarray
    explained: float

    @classmethod
    def fit(cls, items: pd.DataFrame, *, features: tuple[Feature, ...], targets: ItemTargets,
            config: ContentProfileConfig | None = None) -> Self:
        """Fits a profile.

        Args:
          items: raw features, one row an item, cold ones included.
          features: columns to compare items in.
          targets: what training interactions say of the same items.
          config: settings.
        """
        config = config or ContentProfileConfig()
        warm = np.flatnonzero(targets.count > 0)
        fitted = np.sort(warm[np.argsort(-targets.count[warm], kind="stable")][:config.max_items])
        rest = np.setdiff1d(np.arange(len(items)), fitted)
        kernels = tuple(ContentKernel.fit(items[f.name].iloc[fitted], feature=f) for f in features)
        inducing = tuple(k.encode(items[k.feature.name].iloc[fitted]) for k in kernels)
        values, noise, count = targets.values[fitted], targets.noise[fitted], targets.count[fitted]
        chosen = np.sort(np.argsort(-count, kind="stable")[:config.search_items])
        weights, nuggets = _search([k.between(e[chosen], e[chosen]) for k, e in zip(kernels, inducing, strict=True)],
                                   values[chosen], noise[chosen], config.sweeps)
        # One matrix at a time: each takes 8 * F ** 2 bytes.
        total = np.full((len(fitted), len(fitted)), _CONSTANT)
        solutions, alone = [], []
        for kernel, weight, encoded in zip(kernels, weights, inducing, strict=True):
            matrix = kernel.between(encoded, encoded)
            total += weight * matrix
            fit = _solve(matrix, values[:, :1], noise[:, :1], nuggets[0])
            solutions.append(fit.solution)
            alone.append(fit.left_out)
        bias = _solve(total, values[:, :1], noise[:, :1], nuggets[0])
        factors = _solve(total, values[:, 1:], noise[:, 1:], nuggets[1])
        explained = _explained(values[:, 0], bias.left_out[:, 0], count / count.sum())
        profile = cls(kernels, weights, nuggets, inducing, np.hstack([bias.solution, factors.solution]),
                      np.hstack(solutions), bias.root, np.zeros((len(items), 0)), explained)
        table = np.empty((len(items), profile.width))
        table[fitted] = np.column_stack([bias.left_out, np.sqrt(bias.variance), *alone, factors.left_out])
        table[rest] = profile.predict(items.iloc[rest])
        return dataclasses.replace(profile, table=table)

    @property
    def width(self) -> int:
        """Columns of a profile: 2 + features + factors."""
        return 1 + len(self.kernels) + self.solution.shape[1]

    def predict(self, items: pd.DataFrame) -> np.ndarray:
        """Returns the profiles `[N, width]` float64 of items that it was not fitted on, from their raw features."""
        parts = [self._predict(items.iloc[start:start + _BLOCK]) for start in range(0, len(items), _BLOCK)]
        return np.vstack([np.zeros((0, self.width)), *parts])

    def _predict(self, items: pd.DataFrame) -> np.ndarray:
        total = np.full((len(items), len(self.solution)), _CONSTANT)
        variance, alone = np.full(len(items), _CONSTANT), np.empty((len(items), len(self.kernels)))
        for j, (kernel, weight, fitted) in enumerate(zip(self.kernels, self.weights, self.inducing, strict=True)):
            encoded = kernel.encode(items[kernel.feature.name])
            matrix = kernel.between(encoded, fitted)
            alone[:, j] = matrix @ self.alone[:, j]
            total += weight * matrix
            variance += weight * kernel.own(encoded)
        mean = total @ self.solution
        variance -= np.square(total @ self.root.T).sum(axis=1)
        return np.column_stack([mean[:, 0], np.sqrt(np.maximum(variance, 0)), alone, mean[:, 1:]])


@dataclasses.dataclass(frozen=True)
class _Fit:
    """`solution` K^-1 y and `left_out` `[F, C]`, `variance` `[F]` left out, `root` R of K^-1 = R' R `[F, F]`."""

    solution: np.ndarray
    left_out: np.ndarray
    variance: np.ndarray
    root: np.ndarray


def _solve(kernel: np.ndarray, values: np.ndarray, noise: np.ndarray, nugget: float) -> _Fit:
    """Fits columns that share a nugget, without a Python loop over items; noise is averaged over them."""
    added = nugget + noise.mean(axis=1)
    matrix = kernel.copy()
    matrix.ravel()[::len(matrix) + 1] += added
    # A symmetric matrix is its own transpose, and transposed it has the order of LAPACK: nothing is copied.
    factor = scipy.linalg.cholesky(matrix.T, lower=True, overwrite_a=True, check_finite=False)
    root, _ = scipy.linalg.lapack.dtrtri(factor, lower=True, overwrite_c=True)
    solution, diagonal = root.T @ (root @ values), np.einsum("ij,ij->j", root, root)
    return _Fit(solution, values - solution / diagonal[:, None], np.maximum(1 / diagonal - added, 0.0), root)


def _explained(values: np.ndarray, predicted: np.ndarray, share: np.ndarray) -> float:
    """Returns 1 - error / variance, 0 where there is no variance."""
    variance = share @ np.square(values - share @ values)
    return float(1 - share @ np.square(values - predicted) / variance) if variance > 1e-12 else 0.0


def _search(matrices: list[np.ndarray], values: np.ndarray, noise: np.ndarray,
            sweeps: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinate descent on the leave-one-out error of the bias, then the factors' noise at those weights."""
    weights = np.full(len(matrices), 1.0 / len(matrices))

    def error(kernel, nugget, columns):
        left_out = _solve(kernel, values[:, columns], noise[:, columns], nugget).left_out
        # Rows of few interactions are noisy targets.
        share = 1.0 / (0.1 + noise[:, columns].mean(axis=1))
        return float(share @ np.square(values[:, columns] - left_out).mean(axis=1))

    bias, factors = slice(0, 1), slice(1, None)
    kernel = _CONSTANT + sum(w * m for w, m in zip(weights, matrices, strict=True))
    best, nugget = min((error(kernel, n, bias), n) for n in _NUGGETS)
    for _ in range(sweeps):
        for j, matrix in enumerate(matrices):
            for factor in _FACTORS:
                tried = kernel + (factor - 1) * weights[j] * matrix
                if (found := error(tried, nugget, bias)) < best:
                    best, kernel = found, tried
                    weights[j] *= factor
    return weights, tuple(min(_NUGGETS, key=lambda n: error(kernel, n, columns)) for columns in (bias, factors))
