"""Row-sparse gradients without repeated rows."""

from typing import NamedTuple

import tensorflow as tf


class DistinctSlices(tf.IndexedSlices):
    """The gradient of an embedding table in the rows that a batch read, no row twice.

    A plain `tf.IndexedSlices` holds one slice per look-up: its norm counts a row that was read twice as two, and
    an optimizer that is not linear in the gradient would update it twice. What takes such a gradient apart and
    puts it together again (a cast, a reduction over replicas) returns a plain `tf.IndexedSlices`, for which rows
    are added up anew.
    """


def distinct(gradient: tf.IndexedSlices) -> DistinctSlices:
    """Adds up the slices of each row.

    Args:
      gradient: `values [N, ...]` floating, `indices [N]` integers, in any order and with repetitions.

    Returns:
      `values [R, ...]`, `indices [R]`: the R different rows in the order of their first occurrence. The work is
      that of the N slices, whatever the table's size.
    """
    if isinstance(gradient, DistinctSlices):
        return gradient
    rows, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
    return DistinctSlices(values, rows, gradient.dense_shape)


class RowSums(NamedTuple):
    """A table's row-sparse gradient, its slices added up in a tensor of the table's size."""

    total: tf.Tensor  # [V, ...]
    count: tf.Tensor  # [V], slices of each row

    def distinct(self) -> DistinctSlices:
        """Returns the R rows that have slices, in ascending order."""
        rows = tf.reshape(tf.where(self.count > 0), [-1])
        return DistinctSlices(tf.gather(self.total, rows), rows, tf.shape(self.total, tf.int64))


def sum_by_row(gradient: tf.IndexedSlices, table: tf.Tensor) -> RowSums:
    """Adds up the slices of each row of a table, for XLA, which has no tensors of unknown shape.

    Args:
      gradient: as in `distinct`.
      table: `[V, ...]`.
    """
    def total(values):
        return tf.math.unsorted_segment_sum(values, gradient.indices, table.shape[0])

    return RowSums(total(gradient.values), total(tf.ones_like(gradient.indices, tf.float32)))


def clip_by_norm(gradients: list, clip_norm: float, *, norm: tf.Tensor) -> list:
    """Scales gradients so that their global norm is at most `clip_norm`.

    Args:
      gradients: tensors and `DistinctSlices`, which stay such.
      clip_norm: the bound.
      norm: their global norm; where it is not finite the result is NaN.
    """
    clipped, _ = tf.clip_by_global_norm(gradients, clip_norm, use_norm=norm)
    return [DistinctSlices(g.values, g.indices, g.dense_shape) if isinstance(g, tf.IndexedSlices) else g
            for g in clipped]
