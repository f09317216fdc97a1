"""Products that weigh or mask the rows of a support set."""

import tensorflow as tf


def scale_rows(rows: tf.Tensor, factor: tf.Tensor, columns: tf.Tensor | None = None) -> tf.Tensor:
    """Returns `rows * factor * columns`, exactly 0 where the factor is 0, whatever a row holds there.

    By a tensor of the rows' own shape: on processors, TensorFlow's operations that repeat an operand, `tf.where` among
    them, take several times as long as a matrix product that makes such a tensor.

    Args:
      rows: `[B, N, D]`.
      factor: of each row, `[B, N]`.
      columns: of each column, finite, `[1, D]` or `[B, D]`; None stands for ones.
    """
    if columns is None:
        columns = tf.ones([1, rows.shape[-1]], rows.dtype)
    if tf.config.list_logical_devices("GPU"):
        # There a matrix product of float32 may have the precision of TF32, and repeating an operand costs nothing.
        return tf.math.multiply_no_nan(rows, factor[..., None] * columns[:, None, :])
    return tf.math.multiply_no_nan(rows, tf.linalg.matmul(factor[..., None], columns[:, None, :]))
