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

    total: tf.Tensor  # [V, D]
    count: tf.Tensor  # [V], slices of each row


def sum_rows(gradient: tf.IndexedSlices, table: tf.Tensor) -> RowSums | DistinctSlices:
    """Adds up the slices of each row in a function that XLA compiles, which has no tensors of unknown shape.

    On processors a tensor of the table's size takes XLA a fraction of the time of sorting the slices, but some for each
    row of the table too, and nothing may grow with tables of which a batch reads little: they are sorted.

    Args:
      gradient: `values [N, D]` floating, `indices [N]` integers, in any order and with repetitions.
      table: `[V, D]`.

    Returns:
      Sums over all rows where V is at most 4 N; else, or where N is known to XLA alone, the R different rows in
      ascending order, followed by N - R of index V, which XLA neither reads out of bounds nor writes.
    """
    slices, rows = tf.size(gradient.indices), table.shape[0]
    if rows <= 4 * (gradient.indices.shape[0] or 0):
        return RowSums(*(tf.math.unsorted_segment_sum(x, gradient.indices, rows)
                         for x in (gradient.values, tf.ones_like(gradient.indices, tf.float32))))
    order = tf.argsort(gradient.indices)
    index = tf.gather(gradient.indices, order)
    place = tf.cumsum(tf.pad(tf.cast(index[1:] != index[:-1], tf.int32), [[1, 0]]))
    values = tf.math.unsorted_segment_sum(tf.gather(gradient.values, order), place, slices)
    index = tf.tensor_scatter_nd_update(tf.fill([slices], tf.cast(rows, index.dtype)), place[:, None], index)
    return DistinctSlices(values, index, gradient.dense_shape)


def global_norm(gradients: list) -> tf.Tensor:
    """Returns the norm of all gradients together: tensors, `DistinctSlices` and `RowSums`."""
    def part(gradient):
        if not isinstance(gradient, RowSums):
            return gradient
        # As a product with ones, which takes XLA half the time of adding up a large tensor.
        total = gradient.total
        return tf.sqrt(tf.reduce_sum(tf.linalg.matmul(tf.square(total), tf.ones([total.shape[1], 1], total.dtype))))

    return tf.linalg.global_norm([part(g) for g in gradients])


def clip_by_norm(gradients: list, clip_norm: float, *, norm: tf.Tensor) -> list:
    """Scales gradients so that their global norm is at most `clip_norm`.

    Args:
      gradients: tensors, `DistinctSlices` and `RowSums`, which stay such.
      clip_norm: the bound.
      norm: their global norm; where it is not finite the result is NaN.
    """
    values = [g.total if isinstance(g, RowSums) else g for g in gradients]
    clipped, _ = tf.clip_by_global_norm(values, clip_norm, use_norm=norm)
    return [RowSums(c, g.count) if isinstance(g, RowSums)
            else DistinctSlices(c.values, c.indices, c.dense_shape) if isinstance(c, tf.IndexedSlices) else c
            for g, c in zip(gradients, clipped, strict=True)]
