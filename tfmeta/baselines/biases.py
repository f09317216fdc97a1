"""Damped item and user biases, shared by the baselines that build on them."""

import dataclasses

import numpy as np

from tfmeta.data.interactions import Interactions
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass(frozen=True)
class Biases:
    """`label = mean + item_bias + user_bias + residual` (Koren, "Factorization meets the neighborhood", 2008, 2.1).

    Attributes:
      mean: mean training label.
      item_bias: `[I + 1]` float64; the last entry, which the row -1 reaches, is for unknown items.
      user_bias: `[U]` float64 of the training users, 0 for others.
      user_damping: interactions' worth of shrinkage of a user's bias towards 0.
    """

    mean: float
    item_bias: np.ndarray
    user_bias: np.ndarray
    user_damping: float

    @classmethod
    def fit(cls, train: Interactions, *, num_users: int, num_items: int, item_damping: float, user_damping: float,
            item_prior: np.ndarray | None = None, sweeps: int = 8) -> "Biases":
        """Alternates between the closed forms of both biases, starting with the items.

        Args:
          train: training interactions.
          num_users, num_items: numbers of rows, interactions or not.
          item_damping: interactions' worth of shrinkage of an item's bias towards its prior.
          user_damping: the same for users, towards 0.
          item_prior: `[I + 1]` bias of an item without interactions; None stands for 0.
          sweeps: alternations; 1 gives the sequential estimate (items first, then users on the residual).
        """
        mean = float(train.label.mean(dtype=np.float64)) if len(train) else 0.0
        residual = train.label.astype(np.float64) - mean
        prior = np.zeros(num_items + 1) if item_prior is None else item_prior
        items = np.bincount(train.item_row, minlength=num_items + 1)
        users = np.bincount(train.user_row, minlength=num_users)
        user_bias, item_bias = np.zeros(num_users), prior
        for _ in range(sweeps):
            total = np.bincount(train.item_row, residual - user_bias[train.user_row], minlength=num_items + 1)
            item_bias = shrink(total + item_damping * prior, items + item_damping, prior)
            total = np.bincount(train.user_row, residual - item_bias[train.item_row], minlength=num_users)
            user_bias = shrink(total, users + user_damping, 0.0)
        return cls(mean, item_bias, user_bias, user_damping)

    def support_residual(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T, S]` float64: label - mean - item bias, 0 in padding."""
        real = np.arange(tasks.support_label.shape[1])[None, :] < tasks.support_length[:, None]
        label = np.where(real, tasks.support_label, 0.0).astype(np.float64)
        return np.where(real, label - self.mean - self.item_bias[tasks.support_item], 0.0)

    def fold_in(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T]` float64 user biases solved from the supports; 0 for an empty support."""
        total = self.support_residual(tasks).sum(axis=1)
        return shrink(total, tasks.support_length + self.user_damping, 0.0)


def shrink(total: np.ndarray, weight: np.ndarray, default) -> np.ndarray:
    """Returns total / weight, and `default` where the weight is 0."""
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), default)
