"""How much each row of a support moved each score."""

import tensorflow as tf

from export.influence import down_dating, held_path, leave_one_out
from export.user_state import UserState
from tfmeta.learners.linear_system import LinearSystem
from tfmeta.learners.task_tensors import Query
from tfmeta.models.encoded_widths import encoded_widths
from tfmeta.models.recommender import Recommender

# Numbers that the copies of one task may take at a time, and what is held of a candidate beside its representation.
_BUDGET, _HIDDEN = 1 << 18, 64


class Influence:
    """Leave-one-out influence: the score with all rows minus the score without one.

    Closed-form heads with a squared error: exact, by down-dating. Learners that take gradient steps on the mean of
    their rows' losses: first order along the path (`held_path`). Every other learner, logistic heads among them:
    exact, by adapting once without each row.

    Args:
      recommender: with its weights.
      support_bound: rows of the widest support.
      at_once: rows that are left out at a time; None chooses so that memory is bounded.

    Attributes:
      method: `down_dating`, `held_path` or `leave_one_out`.
      exact: whether it is exact leave-one-out, but for rounding.
    """

    def __init__(self, recommender: Recommender, *, support_bound: int, at_once: int | None = None):
        self._recommender, self._at_once = recommender, at_once
        _, self._item_width = encoded_widths(recommender.model)
        with tf.init_scope():
            self.method, steps = self._choose()
        self._task_width = (1 + steps) * UserState(recommender).width + support_bound * self._item_width
        self.exact = self.method != "held_path"

    def __call__(self, user: tf.Tensor, *, support_item: tf.Tensor, support_label: tf.Tensor,
                 support_length: tf.Tensor, query_item: tf.Tensor, scores: tf.Tensor, base: tf.Tensor) -> tf.Tensor:
        """Returns the influences `[B, Q, W]`, 0 for padding; always finite.

        Args:
          user: `[B, Du]`.
          support_item: `[B, W, Di]`.
          support_label: `[B, W]`, the label's own unit.
          support_length: `[B]` int32.
          query_item: `[B, Q, Di]`.
          scores: `[B, Q]`, adapted.
          base: `[B, Q]`, unadapted.
        """
        recommender = self._recommender
        learner = recommender.learner
        support = recommender.make_support(user, support_item, support_label, support_length)
        start = learner.init(user)
        if self.method == "down_dating":
            found = self._down_date(learner.linear_system(start, support), Query(user=user, item=query_item))
        elif self.method == "held_path":
            found = tf.transpose(held_path.influence(recommender, learner.descent(start), support, query_item,
                                                     at_once=self._rows(query_item)), [0, 2, 1])
        else:
            without = leave_one_out.scores_without(recommender, support, query_item, base=base,
                                                   at_once=self._rows(query_item))
            found = scores[..., None] - tf.transpose(without, [0, 2, 1])
        counts = tf.sequence_mask(support_length, tf.shape(support_label)[1])[:, None, :]
        return tf.where(counts & tf.math.is_finite(found), found, tf.zeros_like(found))

    def _choose(self) -> tuple[str, int]:
        """Returns the method, and how many gradient steps it decomposes."""
        recommender = self._recommender
        user, item = encoded_widths(recommender.model)
        nobody, nothing = tf.zeros([1, user], recommender.variable_dtype), tf.zeros([1, 1], recommender.variable_dtype)
        support = recommender.make_support(nobody, tf.zeros([1, 1, item], recommender.variable_dtype), nothing,
                                           tf.zeros([1], tf.int32))
        start = recommender.learner.init(nobody)
        if recommender.learner.linear_system(start, support) is not None:
            return "down_dating", 0
        descent = recommender.learner.descent(start)
        return ("leave_one_out", 0) if descent is None else ("held_path", len(descent.rates))

    def _rows(self, query_item: tf.Tensor) -> tf.Tensor | int:
        """Returns how many rows may be left out at a time."""
        if self._at_once:
            return self._at_once
        numbers = self._task_width + tf.shape(query_item)[1] * (self._item_width + _HIDDEN)
        return tf.maximum(_BUDGET // numbers, 1)

    def _down_date(self, system: LinearSystem, query: Query) -> tf.Tensor:
        recommender = self._recommender
        features, _ = recommender.model.linear(query.user, query.item)
        moved, changes = down_dating.output_changes(system, system.whiten(features))
        output = recommender.model.linear_output(system.prior, query.user, query.item) + moved

        def score(output):
            return recommender.to_score(recommender.learner.from_output(output))

        shape = tf.shape(changes)
        without = tf.reshape(output[..., None] - changes, [shape[0], shape[1] * shape[2]])
        return score(output)[..., None] - tf.reshape(score(without), shape)
