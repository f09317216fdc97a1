"""Cleans a client's support set in the graph."""

from typing import NamedTuple

import tensorflow as tf

from tfmeta.data.label import Label


class CleanSupport(NamedTuple):
    """Usable support rows, moved to the front. W is the smaller of the width S and the bound.

    Attributes:
      index: `[B, W]` int32, the original position of each kept row; arbitrary beyond `length`.
      label: `[B, W]` float32 in the label's own unit and range, 0 beyond `length`.
      length: `[B]` int32, number of kept rows.
      dropped: `[B]` bool, a non-finite label was dropped.
      clamped: `[B]` bool, the length lay outside 0..S.
    """

    index: tf.Tensor
    label: tf.Tensor
    length: tf.Tensor
    dropped: tf.Tensor
    clamped: tf.Tensor

    def gather(self, values: tf.Tensor) -> tf.Tensor:
        """Takes the kept rows of a support input: `[B, S, ...]` -> `[B, W, ...]`."""
        return tf.gather(values, self.index, batch_dims=1)


def clean_support(label: tf.Tensor, length: tf.Tensor, *, info: Label, bound: int) -> CleanSupport:
    """Clamps lengths, drops non-finite labels, keeps the last `bound` rows and clips labels into their range.

    Args:
      label: `[B, S]` float32; whatever lies beyond `length` has no influence.
      length: `[B]` int32.
      info: the label's range.
      bound: rows kept, the most recent (last) ones.
    """
    width = tf.shape(label)[1]
    inside = tf.clip_by_value(length, 0, width)
    real = tf.sequence_mask(inside, width)
    finite = tf.math.is_finite(label)
    valid = real & finite
    count = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)
    rank = tf.cumsum(tf.cast(valid, tf.int32), axis=1)
    kept = valid & (rank > count[:, None] - bound)
    position = tf.range(width)[None, :]
    # Distinct keys, so the sort is stable by construction: kept rows first, each part in its order.
    key = tf.where(kept, position, position + width)
    index = tf.math.top_k(-key, k=tf.minimum(width, bound), sorted=True).indices
    kept_length = tf.minimum(count, bound)
    kept_label = tf.gather(tf.clip_by_value(label, info.minimum, info.maximum), index, batch_dims=1)
    kept_label = tf.where(tf.sequence_mask(kept_length, tf.shape(index)[1]), kept_label, 0.0)
    return CleanSupport(index=index, label=kept_label, length=kept_length,
                        dropped=tf.reduce_any(real & ~finite, axis=1), clamped=tf.not_equal(inside, length))
