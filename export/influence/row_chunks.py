"""Tasks repeated once for each row of their supports, some rows at a time."""

from collections.abc import Callable

import tensorflow as tf


def over_rows(part: Callable[[tf.Tensor], tf.Tensor], *, width: tf.Tensor, at_once: tf.Tensor | int,
              like: tf.Tensor) -> tf.Tensor:
    """Joins what is computed for some rows of all supports at a time, so that memory is bounded.

    Args:
      part: rows `[R]` int32 -> `[B, R, Q]`.
      width: scalar int32, W, rows of the supports.
      at_once: largest R.
      like: `[B, Q]`, for shape and dtype.

    Returns:
      `[B, W, Q]`.
    """
    size = tf.minimum(width, at_once)

    def step(start, joined):
        rows = tf.range(start, tf.minimum(start + size, width))
        return start + size, tf.concat([joined, part(rows)], axis=1)

    start = (tf.constant(0), tf.zeros_like(like)[:, None, :][:, :0])
    return tf.while_loop(lambda start, _: start < width, step, start, parallel_iterations=1,
                         shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None, None])))[1]


def repeat(tensor: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
    """Repeats every task: `[B, ...]` -> `[B * times, ...]`, a task's copies side by side."""
    return tf.repeat(tensor, times, axis=0)


def join(tensor: tf.Tensor) -> tf.Tensor:
    """Makes tasks of rows: `[B, R, ...]` -> `[B * R, ...]`."""
    return tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], axis=0))
