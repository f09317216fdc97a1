"""Fast weights: one value per task, written down as compactly as it allows.

A learner treats a fast weight as a value with a leading task axis and changes it through `tfmeta.learners.inner_loop`,
which knows the compact forms; `materialise` gives the plain tensors.
"""

from typing import NamedTuple

import tensorflow as tf


class Shared(NamedTuple):
    """The same value for every task: what an unadapted weight is. Products with it are one large product."""

    value: tf.Tensor  # [in, out], or [1, out] for a bias


class LowRank(NamedTuple):
    """A kernel per task, `base + inputs^T coefficients`, that is never formed.

    Gradient descent on a dense layer whose inputs are the same in every step moves its kernel within the span of
    those inputs, so the sum of pre-activation gradients is all that needs keeping.
    """

    base: tf.Tensor  # [in, out], shared by all tasks
    inputs: tuple[tf.Tensor, ...]  # parts [B, S or 1, width]; their widths add up to `in`
    coefficients: tf.Tensor  # [B, S, out]


FastWeight = tf.Tensor | Shared | LowRank
Fast = dict[str, FastWeight]


def weight_shape(weight: FastWeight) -> tf.TensorShape:
    """Returns the shape of one task's value."""
    if isinstance(weight, Shared):
        return weight.value.shape
    return weight.base.shape if isinstance(weight, LowRank) else weight.shape[1:]


def materialise(fast: Fast, *, tasks: tf.Tensor) -> dict[str, tf.Tensor]:
    """Returns the fast weights as plain tensors, name -> `[B, ...]`.

    Args:
      fast: in any form.
      tasks: scalar int32, B.
    """
    return {name: _plain(weight, tasks) for name, weight in fast.items()}


def _plain(weight: FastWeight, tasks: tf.Tensor) -> tf.Tensor:
    if isinstance(weight, Shared):
        return tf.tile(weight.value[None], [tasks, 1, 1])
    if isinstance(weight, LowRank):
        inputs = concatenate(weight.inputs, rows=tf.shape(weight.coefficients)[1])
        return weight.base[None] + tf.linalg.matmul(inputs, weight.coefficients, transpose_a=True)
    return weight


def concatenate(parts: tuple[tf.Tensor, ...], *, rows: tf.Tensor) -> tf.Tensor:
    """Joins parts `[B, N or 1, width]` along the last axis to `[B, N, sum of widths]`, `rows` being N."""
    if len(parts) == 1:
        return parts[0]
    tasks = tf.shape(parts[0])[0]
    return tf.concat([tf.broadcast_to(p, [tasks, rows, p.shape[-1]]) for p in parts], axis=-1)
