"""What interactions say of each item: targets of a regression on content."""

import dataclasses
from typing import Self

import numpy as np
import scipy.sparse

from tfmeta.baselines.biases import Biases
from tfmeta.baselines.solve_rows import solve_rows
from tfmeta.data.interactions import Interactions

# Interactions' worth of shrinkage, and alternations; the factorisation is that of `als_fold_in` at its defaults.
_DAMPING, _RIDGE, _SWEEPS = 5.0, 8.0, 12


@dataclasses.dataclass(frozen=True)
class ItemTargets:
    """Biases and factors of items, each column of unit variance, with the noise that few interactions leave.

    Attributes:
      values: `[I, 1 + factors]` float64: mean residual of the item after user biases; coordinates of its vector in
        a matrix factorisation, along the principal axes of the users, the strongest first.
      noise: `[I, 1 + factors]` variance of each.
      count: `[I]` interactions.
    """

    values: np.ndarray
    noise: np.ndarray
    count: np.ndarray

    @classmethod
    def fit(cls, train: Interactions, *, num_users: int, num_items: int, factors: int, seed: int = 0) -> Self:
        """Fits biases and factors on training interactions with ratings."""
        biases = Biases.fit(train, num_users=num_users, num_items=num_items, item_damping=_DAMPING,
                            user_damping=_DAMPING)
        count = np.bincount(train.item_row, minlength=num_items)
        residual = train.label.astype(np.float64) - biases.mean - biases.user_bias[train.user_row]
        bias = np.bincount(train.item_row, residual, minlength=num_items) / np.maximum(count, 1)
        left = residual - biases.item_bias[train.item_row]
        spread = float(np.sqrt(np.mean(np.square(left)))) if len(left) else 1.0
        item = _factorise(train, left, num_users=num_users, num_items=num_items, factors=factors, seed=seed)
        values = np.column_stack([bias, item])
        known = count > 0
        scale = np.sqrt(np.average(np.square(values[known]), axis=0, weights=count[known])) if known.any() else 1.0
        scale = np.where(scale > 1e-9, scale, 1.0)
        noise = np.column_stack([np.full(num_items, spread**2), np.full((num_items, factors), _RIDGE)])
        noise = noise / np.maximum(count, 1)[:, None]
        noise[:, :1] /= scale[0] ** 2
        return cls(values / scale, noise, count)


def _factorise(train, residual, *, num_users, num_items, factors, seed) -> np.ndarray:
    pairs, shape = (train.user_row, train.item_row), (num_users, num_items)
    known = scipy.sparse.csr_matrix((np.ones(len(residual)), pairs), shape=shape)
    value = scipy.sparse.csr_matrix((residual, pairs), shape=shape)
    by_item = known.T.tocsr(), value.T.tocsr()
    item = np.random.default_rng([seed, 16]).normal(0, 0.1, (num_items, factors))
    penalty = _RIDGE * np.eye(factors)
    for _ in range(_SWEEPS):
        user = solve_rows(known, value, item, penalty=penalty)
        item = solve_rows(*by_item, user, penalty=penalty)
    # Axes on which users differ most come first, scaled so that a user's coordinates have variance 1.
    variance, axes = np.linalg.eigh(user.T @ user / max(1, len(user)))
    return (item @ axes * np.sqrt(np.maximum(variance, 0)))[:, ::-1]
