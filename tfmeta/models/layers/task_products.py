"""Products of tensors that have one value a task, whose gradients know which axes they share.

Where shapes are known only as a graph runs, TensorFlow's own gradients find out there which axes were broadcast. That
is several operations an operand, together longer than the arithmetic of a small task. Everything here is differentiable
any number of times.
"""

import tensorflow as tf


def task_product(left: tf.Tensor, right: tf.Tensor, *, transpose_left: bool = False,
                 transpose_right: bool = False) -> tf.Tensor:
    """Multiplies each task's matrices, `[B, N, M]` and `[B, M, K]` -> `[B, N, K]`; both have B tasks.

    Args:
      left, right: the matrices.
      transpose_left, transpose_right: take the transpose of each of them; at most one.
    """
    @tf.custom_gradient
    def product(a, b):
        def gradient(g):
            if transpose_left:
                return task_product(b, g, transpose_right=True), task_product(a, g)
            if transpose_right:
                return task_product(g, b), task_product(g, a, transpose_left=True)
            return task_product(g, b, transpose_right=True), task_product(a, g, transpose_left=True)

        return tf.linalg.matmul(a, b, transpose_a=transpose_left, transpose_b=transpose_right), gradient

    return product(left, right)


@tf.custom_gradient
def single_output(rows: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`task_product` of `[B, N, M]` and `[B, M, 1]`, without the fixed cost of a batched product, `[B, N, 1]`."""
    across = tf.linalg.matrix_transpose(kernel)

    def gradient(g):
        return g * across, tf.reduce_sum(rows * g, axis=1)[..., None]

    return tf.reduce_sum(rows * across, axis=-1, keepdims=True), gradient


def add_bias(rows: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Adds a bias, `[B, 1, out]` or one for all tasks `[1, 1, out]`, to `[B, N, out]`."""
    if rows.shape[0] == 1 and bias.shape[0] != 1:
        return rows + bias  # All tasks share the rows, so their gradient is a sum over tasks too.
    axes = [0, 1] if bias.shape[0] == 1 else [1]

    @tf.custom_gradient
    def added(rows, bias):
        return rows + bias, lambda g: (g, tf.reduce_sum(g, axis=axes, keepdims=True))

    return added(rows, bias)
