"""Exact leave-one-out of ridge systems: each row is taken out of the solved system by a rank-one down-date."""

import tensorflow as tf

from tfmeta.learners.linear_solve import in_range, lower_factor
from tfmeta.learners.linear_system import LinearSystem


def output_changes(system: LinearSystem, query: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns by how much all rows changed each output, and what of it goes with each row.

    With A = I + F^T F and z = A^-1 (F^T y + g), Sherman and Morrison's formula for A - f_i f_i^T gives

        z - z_i = A^-1 f_i (y_i - f_i . z - f_i . A^-1 e_i) / (1 - h_i) - A^-1 e_i

    where h_i = f_i . A^-1 f_i is the row's leverage and e_i = g_i - g how the prior's own change would differ without
    it. (For e = 0 this is Cook and Weisberg, "Residuals and Influence in Regression", 1982, section 2.2.) All rows cost
    one factorisation of A.

    Args:
      system: of B tasks with S rows.
      query: `[B, Q, P]`, whitened features.

    Returns:
      the adapted output minus the prior's, `[B, Q]`; and the adapted output minus that without each row, `[B, Q, S]`, 0
      for rows that are not used.
    """
    whitened = in_range(system.rows)
    rows = whitened.rows
    lower = lower_factor(whitened)

    def half(right):
        """A^-1 = L^-T L^-1: products with A^-1 are products of two of these. `[B, N, P]` -> `[B, P, N]`"""
        return tf.linalg.triangular_solve(lower, tf.linalg.matrix_transpose(right))

    from_rows, from_query = half(rows), half(query)
    right = tf.linalg.matvec(rows, system.target, transpose_a=True)
    if system.shift is not None:
        right += system.shift
    solution = half(right[:, None, :])[..., 0]
    fitted = tf.linalg.matvec(from_rows, solution, transpose_a=True)
    moved = tf.linalg.matvec(from_query, solution, transpose_a=True)
    leverage = tf.reduce_sum(tf.square(from_rows), axis=1)
    # 1 - h_i is at least 1 / (1 + |f_i|^2), whatever rounding says.
    rest = tf.maximum(1 - leverage, 1 / (1 + tf.reduce_sum(tf.square(rows), axis=2)))
    residual = system.target - fitted
    if system.shift is None:
        return moved, tf.linalg.matmul(from_query, from_rows * (residual / rest)[:, None, :], transpose_a=True)
    from_shift = half(system.shift_without - system.shift[:, None, :])
    residual -= tf.reduce_sum(from_rows * from_shift, axis=1)
    change = from_rows * (residual / rest)[:, None, :] - from_shift
    return moved, tf.linalg.matmul(from_query, change, transpose_a=True)
