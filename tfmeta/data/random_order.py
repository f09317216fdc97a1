"""The first entries of random orders of many ranges at once, at a cost that does not grow with the ranges."""

import math

import tensorflow as tf


def random_order(count: tf.Tensor, *, need: int | None, longest: int, seed: tf.Tensor,
                 margin: float = 4.0) -> tf.Tensor:
    """Draws without replacement, each range by itself.

    Where `need` bounds what is wanted of long ranges, a range is thinned first: every position stays with the
    same probability, chosen so that a few more than `need` are expected. The stayers are found by adding up
    geometric gaps (skip sampling; Devroye, Non-Uniform Random Variate Generation, 1986, section XII.3), so that
    positions left out cost nothing. Given their number they are a uniform random subset, so a random order of
    them begins as one of the whole range does; a range with too few or too many stayers is thinned again, which
    changes nothing in that. A range short enough stays whole.

    Args:
      count: `[B]` int32, sizes of the ranges, at least 1.
      need: entries wanted at most; None for all.
      longest: the largest count that can occur.
      seed: `[2]` int32.
      margin: standard deviations between the expected stayers and both bounds.

    Returns:
      `[B, W]` int32, W = max(min(count, need)): in row b the first min(count[b], need) entries are those of a
      uniform random order of 0 to count[b] - 1; the others are arbitrary, and at least 0.
    """
    longest_here = tf.reduce_max(count)
    key_seed, thin_seed = tf.unstack(tf.random.split(seed, 2))
    capacity = 0
    if need is not None:
        mean = need + margin * math.sqrt(need) + margin**2 / 2
        capacity = math.ceil(mean + margin * math.sqrt(mean)) + 1
    thins = need is not None and longest > capacity
    if thins:
        position = _thin(count, need=need, mean=mean, capacity=capacity, seed=thin_seed)
        real = position < count[:, None]
    else:
        real = tf.range(longest_here)[None, :] < count[:, None]
    # Padding has the smallest key there is, and of equal keys the first comes first.
    keys = tf.random.stateless_uniform(tf.shape(real), key_seed, minval=None, maxval=None, dtype=tf.int32,
                                       alg="philox")
    width = longest_here if need is None else tf.minimum(longest_here, need)
    order = tf.math.top_k(tf.where(real, keys, tf.int32.min), k=width).indices
    if thins:
        order = tf.gather(tf.where(real, position, 0), order, axis=1, batch_dims=1)
    return order


def _thin(count: tf.Tensor, *, need: int, mean: float, capacity: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns ascending stayers of each range `[B, capacity]` int32; entries beyond them are `count` or more."""
    long = count > capacity
    size = tf.cast(count, tf.float64)[:, None]
    scale = 1.0 / tf.math.log1p(-tf.where(long[:, None], mean / size, 0.5))
    whole = tf.broadcast_to(tf.range(capacity), [tf.shape(count)[0], capacity])

    def thin(attempt, position, fine):
        uniform = tf.random.stateless_uniform(tf.shape(position), tf.random.fold_in(seed, attempt),
                                              dtype=tf.float64, alg="philox")
        gap = tf.minimum(tf.math.log1p(-uniform) * scale, size)  # 0 up to 1 is a gap of no position
        drawn = tf.cumsum(tf.cast(gap, tf.int64) + 1, axis=1) - 1
        drawn = tf.cast(tf.minimum(drawn, tf.cast(count, tf.int64)[:, None]), tf.int32)
        # With a stayer in the last place there may be more that found no place.
        enough = (drawn[:, need - 1] < count) & (drawn[:, -1] >= count)
        return attempt + 1, tf.where(fine[:, None], position, drawn), fine | enough

    _, position, _ = tf.while_loop(lambda _, __, fine: tf.logical_not(tf.reduce_all(fine)), thin,
                                   [tf.constant(0), whole, ~long], parallel_iterations=1)
    return position
