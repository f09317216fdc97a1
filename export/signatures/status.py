"""The output `status` [B] int32: a bit set that says what the graph did to a row's values.

No graph fails because of a value: request batching merges strangers' rows, and an assertion would fail them all.
"""

import tensorflow as tf

LABEL_DROPPED = 1
FEATURE_REPLACED = 2
STATE_REJECTED = 4
LENGTH_CLAMPED = 8


def combine(tasks: tf.Tensor, flags: dict[int, tf.Tensor | None]) -> tf.Tensor:
    """Returns `[B]` int32.

    Args:
      tasks: scalar int32, B.
      flags: bit -> bool `[B]`, or None where it cannot occur.
    """
    status = tf.zeros([tasks], tf.int32)
    for bit, flag in flags.items():
        if flag is not None:
            status += tf.where(flag, bit, 0)
    return status
