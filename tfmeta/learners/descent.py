"""What an adaptation by gradient steps is made of."""

from typing import NamedTuple, Protocol

import tensorflow as tf

from tfmeta.learners.losses import TaskLoss, binary_cross_entropy, squared_error
from tfmeta.models.fast_weights import Fast

# Losses that are means over the rows of a support.
_OF_ROWS = (squared_error, binary_cross_entropy)


class Scorer(Protocol):
    """Whatever scores items under fast weights, as `MetaModel.apply` does."""

    def apply(self, fast: Fast, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """`[B, Du]`, `[B, N, Di]` -> `[B, N]`."""


class Descent(NamedTuple):
    """Steps `theta - rate * clip(s(n) * mean over n rows of the gradients of their losses)`, s(n) = n / (n + tau)."""

    scorer: Scorer
    loss: TaskLoss  # the mean over a task's rows of a loss of each
    rates: tuple[dict[str, tf.Tensor], ...]  # fast weight -> rate, for each step
    shrinkage: float = 0.0  # tau
    clip_norm: float | None = None  # of each task's gradient over all its fast weights


def is_mean_of_rows(loss: TaskLoss) -> bool:
    """Tells whether each row has a loss of its own; pairs of rows do not."""
    return loss in _OF_ROWS
