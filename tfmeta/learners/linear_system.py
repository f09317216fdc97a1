"""The least squares problem that a closed-form head solves."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class LinearSystem(NamedTuple):
    """Adaptation as `z = (I + F^T F)^-1 (F^T y + g)`: the whitened change of the head's weights from the prior's.

    The output of an item changes by `x . z`, x being its whitened features. g is how the support changes the prior
    itself, whitened too.
    """

    prior: tf.Tensor  # [B, P], the head's unadapted weights
    rows: tf.Tensor  # F [B, S, P], whitened features times the root of each row's weight; 0 where a row is not used
    target: tf.Tensor  # y [B, S], what the prior leaves unexplained, times that root; 0 likewise
    whiten: Callable[[tf.Tensor], tf.Tensor]  # features [B, N, P] -> x [B, N, P]
    shift: tf.Tensor | None = None  # g [B, P]
    shift_without: tf.Tensor | None = None  # [B, S, P], g as it is without each row
