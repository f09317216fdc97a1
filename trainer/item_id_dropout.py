"""Hides item ids at random, so that a model learns to score items it has no id for."""

import tensorflow as tf

_LOW = 0xFFFFFFFF


def item_id_dropout(rows: tf.Tensor, ids: tf.Tensor, *, rate: float | tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Replaces ids by 0 (missing) with probability `rate`, the same in every place of one (task, item).

    Whether an item is hidden is a hash of its task's key and its row, so that support and query agree and nothing
    of the size of the catalogue is drawn. The idea is DropoutNet's (Volkovs, Yu and Poutanen, NeurIPS 2017).

    Args:
      rows: `[B, N]` int32 item rows.
      ids: `[B, N]` int32 transformed item ids.
      rate: probability in [0, 1], or one a task, `[B]` float32.
      key: `[B]` int32, one random number per task, from `task_keys`.

    Returns:
      `[B, N]` int32.
    """
    mixed = _mix(tf.cast(rows, tf.int64) & _LOW)
    mixed = _mix(mixed ^ (tf.cast(key, tf.int64)[:, None] & _LOW))
    bound = tf.cast(tf.cast(rate, tf.float64) * 2**32, tf.int64)
    return tf.where(mixed < (bound[:, None] if bound.shape.rank else bound), tf.zeros_like(ids), ids)


def dropout_rates(keys: tf.Tensor, *, rate: float, spread: float) -> float | tf.Tensor:
    """Returns the probability of hiding an id, one a task `[B]` float32, or `rate` where `spread` is 0.

    A share `spread` of the tasks gets a probability drawn uniformly from [0, 1] instead of `rate`: tasks in which few
    items, most or nearly all are new. The draw is a hash of the task's key.

    Args:
      keys: `[B]` int32, from `task_keys`.
      rate: probability in the other tasks.
      spread: share of tasks.
    """
    if not spread:
        return rate
    first, second = (tf.cast(_mix((tf.cast(keys, tf.int64) ^ salt) & _LOW), tf.float64) / 2.0**32
                     for salt in (0x51ED270B, 0x2545F491))
    return tf.cast(tf.where(first < spread, second, tf.cast(rate, tf.float64)), tf.float32)


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
