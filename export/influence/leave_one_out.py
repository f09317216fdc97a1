"""Exact leave-one-out of any learner: it adapts once without each row."""

import tensorflow as tf

from export.influence.row_chunks import join, over_rows, repeat
from tfmeta.learners.task_tensors import Support
from tfmeta.models.recommender import Recommender


def scores_without(recommender: Recommender, support: Support, query: tf.Tensor, *, base: tf.Tensor,
                   at_once: tf.Tensor | int) -> tf.Tensor:
    """Returns the scores `[B, W, Q]` that B tasks would have without each of the W rows of their supports.

    Rows beyond a support's length are in nobody's way: without them the scores are those of the whole support. As in
    `Recommender.adapt_and_score`, a task that is left without rows, or whose scores are not finite, is unadapted.

    Args:
      recommender: that adapts.
      support: of B tasks, W rows wide.
      query: `[B, Q, Di]`.
      base: `[B, Q]`, unadapted scores.
      at_once: rows that are left out at a time.
    """
    width = tf.shape(support.target)[1]

    def part(rows):
        times = tf.shape(rows)[0]
        # What follows the row moves up; the last place is padding then.
        position = tf.range(width)[None, :]
        source = tf.minimum(position + tf.cast(position >= rows[:, None], tf.int32), width - 1)
        length = support.length[:, None] - tf.cast(rows[None, :] < support.length[:, None], tf.int32)
        length = tf.reshape(length, [-1])
        mask = tf.sequence_mask(length, width)
        item = join(tf.gather(support.item, source, axis=1))
        target = join(tf.gather(support.target, source, axis=1))
        user = repeat(support.user, times)
        item = tf.ensure_shape(tf.where(mask[..., None], item, tf.zeros_like(item)),
                               [None, None, support.item.shape[-1]])
        fast = recommender.learner.adapt(recommender.learner.init(user), Support(
            user=user, item=item, target=tf.where(mask, target, tf.zeros_like(target)), length=length))
        adapted = recommender.predict_scores(fast, user, repeat(query, times))
        usable = tf.reduce_all(tf.math.is_finite(adapted), axis=1) & (length > 0)
        scores = tf.where(usable[:, None], adapted, repeat(base, times))
        return tf.reshape(scores, [-1, times, tf.shape(query)[1]])

    return over_rows(part, width=width, at_once=at_once, like=base)
