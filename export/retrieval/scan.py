"""Exact top k over a catalogue, a chunk of it at a time: memory is bounded whatever the catalogue's size."""

from collections.abc import Callable

import tensorflow as tf

# (first row, number of rows) -> what these rows are ranked by, [B, number of rows].
Rank = Callable[[tf.Tensor | int, int], tf.Tensor]


def top_rows(rank: Rank, *, items: int, count: int, chunk: int, excluded: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the best rows of a catalogue of `items` rows for each of B tasks.

    Equal values rank in the catalogue's order. Values that are no finite numbers, and excluded rows, are left out.

    Args:
      rank: what the rows of a chunk are ranked by; higher is better.
      items: rows of the catalogue.
      count: rows to find, at most `items`.
      chunk: rows that are ranked at a time.
      excluded: `[B, E]` int32, rows that are left out; `items` stands for none.

    Returns:
      their values `[B, count]`, best first, -inf where no row is left; the rows `[B, count]` int32, arbitrary there;
      and bool `[B]`, whether every value of the catalogue was finite.
    """
    if items <= chunk:
        values, finite = _hide(rank(0, items), excluded)
        found = tf.math.top_k(values, k=count)
        return found.values, found.indices, finite
    tasks = tf.shape(excluded)[0]

    def step(number, best, rows, finite):
        # The last chunk reaches back into the one before, so that all have one size.
        begin = number * chunk
        start = tf.minimum(begin, items - chunk)
        values, new = _hide(rank(start, chunk), excluded - start)
        values = tf.where(start + tf.range(chunk) >= begin, values, -float("inf"))
        found = tf.math.top_k(values, k=min(count, chunk))
        # What was found before comes first, as it does in the catalogue: of equal values top_k takes the first.
        values = tf.concat([best, found.values], axis=1)
        joined = tf.concat([rows, start + found.indices], axis=1)
        top = tf.math.top_k(values, k=count)
        return number + 1, top.values, tf.gather(joined, top.indices, batch_dims=1), finite & new

    steps = -(-items // chunk)
    start = (tf.constant(0), tf.fill([tasks, count], -float("inf")), tf.zeros([tasks, count], tf.int32),
             tf.ones([tasks], tf.bool))
    _, best, rows, finite = tf.while_loop(
        lambda number, *_: number < steps, step, start, parallel_iterations=1, maximum_iterations=steps,
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, count]), tf.TensorShape([None, count]),
                          tf.TensorShape([None])))
    return best, rows, finite


def _hide(values: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns values `[B, N]` float32, -inf at the rows `[B, E]` and where not finite, and whether all were finite."""
    values = tf.cast(values, tf.float32) if values.dtype != tf.float64 else values
    tasks, width = tf.shape(values)[0], tf.shape(values)[1]
    inside = (rows >= 0) & (rows < width)
    # Segments below zero count nowhere, so no row can be out of range.
    place = tf.where(inside, tf.range(tasks)[:, None] * width + rows, -1)
    hits = tf.math.unsorted_segment_sum(tf.ones_like(place), place, tasks * width)
    finite = tf.math.is_finite(values)
    shown = finite & (tf.reshape(hits, [tasks, width]) == 0)
    return tf.where(shown, values, -float("inf")), tf.reduce_all(finite, axis=1)
