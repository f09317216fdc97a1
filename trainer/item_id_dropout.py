"""Hides item ids at random, so that a model learns to score items it has no id for."""

import tensorflow as tf

_LOW = 0xFFFFFFFF


def item_id_dropout(rows: tf.Tensor, ids: tf.Tensor, *, rate: float, key: tf.Tensor) -> tf.Tensor:
    """Replaces ids by 0 (missing) with probability `rate`, the same in every place of one (task, item).

    Whether an item is hidden is a hash of its task's key and its row, so that support and query agree and nothing
    of the size of the catalogue is drawn. The idea is DropoutNet's (Volkovs, Yu and Poutanen, NeurIPS 2017).

    Args:
      rows: `[B, N]` int32 item rows.
      ids: `[B, N]` int32 transformed item ids.
      rate: probability in [0, 1).
      key: `[B]` int32, one random number per task, from `task_keys`.

    Returns:
      `[B, N]` int32.
    """
    mixed = _mix(tf.cast(rows, tf.int64) & _LOW)
    mixed = _mix(mixed ^ (tf.cast(key, tf.int64)[:, None] & _LOW))
    return tf.where(mixed < int(rate * 2**32), tf.zeros_like(ids), ids)


def task_keys(count: tf.Tensor, *, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Returns `[count]` int32, uniform, a pure function of the seed and the outer step (scalar integer)."""
    pair = tf.random.fold_in(tf.constant([seed, 0], tf.int32), tf.cast(step, tf.int32))
    return tf.random.stateless_uniform([count], pair, minval=None, maxval=None, dtype=tf.int32, alg="philox")


def _mix(x: tf.Tensor) -> tf.Tensor:
    """Avalanches 32 bits held in int64; the multipliers stay below 2^31, so no product overflows."""
    x = x ^ tf.bitwise.right_shift(x, tf.constant(16, tf.int64))
    x = (x * 0x7FEB352D) & _LOW
    x = x ^ tf.bitwise.right_shift(x, tf.constant(15, tf.int64))
    x = (x * 0x5D6AF3AB) & _LOW
    return x ^ tf.bitwise.right_shift(x, tf.constant(16, tf.int64))
