"""What amortised learners read from the rows of a support set."""

import tensorflow as tf

from tfmeta.learners.scale_rows import scale_rows
from tfmeta.models.layers.fast_dense_stack import FastDenseStack


def label_columns(target: tf.Tensor, output: tf.Tensor, *, unit: str) -> tf.Tensor:
    """Returns what a row tells of its label, `[B, N, 2]`: the label and by how much it exceeds the expectation.

    The label is in target units, the logarithm of 1 + it for weights. The excess is the negative gradient of the
    unit's loss by the output, up to a factor: `y - f` for ratings and `[y > 0] - sigmoid(f)` for clicks and weights.

    Args:
      target: `[B, N]`, target units.
      output: `[B, N]`, the unadapted model's.
      unit: of the label.
    """
    if unit == "rating":
        return tf.stack([target, target - output], axis=-1)
    label = tf.math.log1p(target) if unit == "weight" else target
    return tf.stack([label, tf.cast(target > 0, output.dtype) - tf.sigmoid(output)], axis=-1)


def sum_rows(stack: FastDenseStack, *parts: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Sums what a stack gives for the real rows: `[B, output width]` in its variable dtype.

    Padding holds anything finite. The last layer is linear, so that it is applied to sums.

    Args:
      stack: dense layers.
      *parts: of its input, as in `run_dense`.
      length: real rows `[B]`.
    """
    hidden = tf.cast(stack.hidden(parts), stack.variable_dtype)
    mask = tf.sequence_mask(length, tf.shape(hidden)[1], dtype=hidden.dtype)
    total = tf.linalg.matvec(scale_rows(hidden, mask), mask, transpose_a=True)
    kernel, bias = (weight.value for weight in stack.initial_fast(slice(-1, None)).values())
    return tf.linalg.matmul(total, kernel) + tf.cast(length, hidden.dtype)[:, None] * bias


def damped_mean(total: tf.Tensor, count: tf.Tensor, shrinkage: tf.Tensor | float) -> tf.Tensor:
    """Returns `total / (count + shrinkage)`, 0 where both are 0.

    With `shrinkage` 0 it is the mean. Otherwise it is the mean of the rows and of that many rows of zeros, so that a
    few interactions say less than many.

    Args:
      total: `[B, ..., D]`, 0 where the count is 0.
      count: `[B, ...]`, rows in each sum.
      shrinkage: >= 0, a scalar or of a shape that broadcasts to the count's.
    """
    return tf.math.divide_no_nan(total, (count + shrinkage)[..., None])


def run_dense(stack: FastDenseStack, *parts: tf.Tensor) -> tf.Tensor:
    """Applies a stack's slow weights to the parts of its input, in the stack's variable dtype.

    Args:
      stack: dense layers.
      *parts: `[B, N or 1, width]` each, the last one with N rows; parts with one row stand for N equal ones and are
        never repeated.
    """
    return tf.cast(stack(parts, fast=stack.initial_fast()), stack.variable_dtype)
