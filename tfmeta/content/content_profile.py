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
      solutions: `[J + 1, F, 1 + factors]`: `K^-1 y` for all features, then for each alone (the bias only).
      inverse: `[F, F]`, of the bias's matrix, for the standard deviation.
      table: `[I, width]` float32, the profiles of the items it was fitted on, leave-one-out where due.
      explained: share of the bias's variance that content explains, leave-one-out.
    """

    kernels: tuple[ContentKernel, ...]
    weights: np.ndarray
    nuggets: tuple[float, float]
    inducing: tuple
    solutions: np.ndarray
    inverse: np.ndarray
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
        kernels = tuple(ContentKernel.fit(items[f.name].iloc[fitted], feature=f) for f in features)
        encoded = [k.encode(items[k.feature.name]) for k in kernels]
        inducing = tuple(e[fitted] for e in encoded)
        matrices = np.stack([k.between(e, e) for k, e in zip(kernels, inducing, strict=True)])
        values, noise = targets.values[fitted], targets.noise[fitted]
        chosen = np.sort(np.argsort(-targets.count[fitted], kind="stable")[:config.search_items])
        weights, nuggets = _search(matrices[:, chosen][:, :, chosen], values[chosen], noise[chosen], config.sweeps)
        solutions, inverse, out, spread, explained = [], None, [], None, 0.0
        for which in (None, *range(len(kernels))):
            kernel = _mix(matrices, weights) if which is None else matrices[which]
            fit = _solve(kernel, values if which is None else values[:, :1], noise, nuggets)
            padded = np.zeros_like(values)
            padded[:, :fit.solution.shape[1]] = fit.solution
            solutions.append(padded)
            out.append(fit.left_out)
            if which is None:
                inverse, spread = fit.inverse, np.sqrt(fit.variance)
                share = targets.count[fitted] / targets.count[fitted].sum()
                error = share @ np.square(values[:, 0] - fit.left_out[:, 0])
                explained = float(1 - error / (share @ np.square(values[:, 0] - share @ values[:, 0])))
        profile = cls(kernels, weights, nuggets, inducing, np.stack(solutions), inverse,
                      np.zeros((len(items), 0), np.float32), explained)
        table = profile._predict(encoded)
        table[fitted] = np.column_stack([out[0][:, :1], spread, *out[1:], out[0][:, 1:]])
        return dataclasses.replace(profile, table=table.astype(np.float32))

    @property
    def width(self) -> int:
        return 2 + len(self.kernels) + self.solutions.shape[2] - 1

    def predict(self, items: pd.DataFrame) -> np.ndarray:
        """Returns the profiles `[N, width]` float32 of items that it was not fitted on, from their raw features."""
        return self._predict([k.encode(items[k.feature.name]) for k in self.kernels]).astype(np.float32)

    def _predict(self, encoded: list) -> np.ndarray:
        matrices = np.stack([k.between(e, i) for k, e, i in zip(self.kernels, encoded, self.inducing, strict=True)])
        kernel = _mix(matrices, self.weights)
        mean = kernel @ self.solutions[0]
        own = np.einsum("j,jn->n", self.weights, np.stack([_own(k, e) for k, e in zip(self.kernels, encoded,
                                                                                      strict=True)]))
        variance = np.maximum(own - np.sum(kernel @ self.inverse * kernel, axis=1), 0.0)
        alone = [matrices[j] @ self.solutions[j + 1][:, 0] for j in range(len(self.kernels))]
        return np.column_stack([mean[:, 0], np.sqrt(variance), *alone, mean[:, 1:]])


@dataclasses.dataclass(frozen=True)
class _Fit:
    solution: np.ndarray
    left_out: np.ndarray
    variance: np.ndarray
    inverse: np.ndarray


def _solve(kernel: np.ndarray, values: np.ndarray, noise: np.ndarray, nuggets: tuple[float, float]) -> _Fit:
    """Fits bias (column 0) and factors (the rest), which have a noise of their own."""
    parts = []
    for columns, nugget in ((slice(0, 1), nuggets[0]), (slice(1, None), nuggets[1])):
        part = values[:, columns]
        if part.shape[1]:
            added = nugget + noise[:, columns].mean(axis=1)
            inverse = _inverse(kernel + np.diag(added))
            solution = inverse @ part
            diagonal = np.diag(inverse)[:, None]
            parts.append(_Fit(solution, part - solution / diagonal,
                              np.maximum(1 / diagonal[:, 0] - added, 0.0), inverse))
    return _Fit(np.hstack([p.solution for p in parts]), np.hstack([p.left_out for p in parts]), parts[0].variance,
                parts[0].inverse)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Returns the inverse of a symmetric positive definite matrix."""
    factor, _ = scipy.linalg.lapack.dpotrf(matrix, lower=True, overwrite_a=True)
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    return np.tril(inverse) + np.tril(inverse, -1).T


def _search(matrices: np.ndarray, values: np.ndarray, noise: np.ndarray,
            sweeps: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinate descent on the leave-one-out error of the bias, then the factors' noise at those weights."""
    weights = np.full(len(matrices), 1.0 / max(1, len(matrices)))

    def error(weights, nuggets, columns):
        part = values[:, columns]
        left_out = _solve(_mix(matrices, weights), part, noise[:, columns],
                          nuggets if columns.start == 0 else (nuggets[1], nuggets[1])).left_out
        # Rows of few interactions are noisy targets.
        share = 1.0 / (0.1 + noise[:, columns].mean(axis=1))
        return float(share @ np.square(part - left_out).mean(axis=1))

    bias, factors = slice(0, 1), slice(1, None)
    nugget = min(_NUGGETS, key=lambda n: error(weights, (n, n), bias))
    best = error(weights, (nugget, nugget), bias)
    for _ in range(sweeps):
        for j in range(len(weights)):
            for factor in _FACTORS:
                tried = weights.copy()
                tried[j] *= factor
                if tried.sum() > 0 and (found := error(tried, (nugget, nugget), bias)) < best:
                    best, weights = found, tried
    nugget = min(_NUGGETS, key=lambda n: error(weights, (n, n), bias))
    if values.shape[1] == 1:
        return weights, (nugget, nugget)
    return weights, (nugget, min(_NUGGETS, key=lambda n: error(weights, (nugget, n), factors)))


def _mix(matrices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # The constant is the mean of all items.
    return np.tensordot(weights, matrices, axes=1) + 0.1


def _own(kernel: ContentKernel, encoded) -> np.ndarray:
    """Returns the similarity of each item with itself."""
    if kernel.feature.kind == "numeric":
        return np.isfinite(encoded[:, 0]).astype(np.float64)
    squares = encoded.power(2) if hasattr(encoded, "power") else np.square(encoded)
    return np.asarray(squares.sum(axis=1)).ravel()
