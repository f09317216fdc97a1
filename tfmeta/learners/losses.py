"""Losses of the inner and outer loop: one number per task.

Each function takes `output [B, N]` and `target [B, N]` in target units and `length [B]` int32, and returns
`[B]` float32: the mean over the task's real rows, 0 for a task that has none. Whatever the padding holds, NaN
included, changes neither the value nor the gradient: it is replaced before any arithmetic.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from tfmeta.data.label import Label
from tfmeta.errors import ConfigError, suggest

TaskLoss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def squared_error(output: tf.Tensor, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Mean of (output - target)^2."""
    mask, (output, target) = _clean(length, output, target)
    return _mean(_squared_difference(output, target), mask)


def binary_cross_entropy(output: tf.Tensor, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Mean log loss of the logit `output` for the event target > 0, weighted by the target where it exceeds 1.

    For clicks this is the plain binary cross-entropy. A weight above 1 counts as confidence in a positive (Hu,
    Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, section 4).
    """
    mask, (output, target) = _clean(length, output, target)
    positive = tf.cast(target > 0, output.dtype)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=positive, logits=output)
    return _mean(loss * tf.maximum(target, 1.0), mask)


def pairwise(output: tf.Tensor, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Mean over pairs with target_i > target_j of log(1 + exp(output_j - output_i)); 0 without such a pair.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, section 4.1,
    over all pairs of a task instead of sampled ones.
    """
    mask, (output, target) = _clean(length, output, target)
    pair = tf.cast(target[:, :, None] > target[:, None, :], output.dtype)
    pair *= mask[:, :, None] * mask[:, None, :]
    loss = tf.nn.softplus(output[:, None, :] - output[:, :, None])
    return tf.math.divide_no_nan(tf.reduce_sum(loss * pair, axis=[1, 2]), tf.reduce_sum(pair, axis=[1, 2]))


def softmax(output: tf.Tensor, log_normaliser: tf.Tensor, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Mean over a task's positives, weighted by their targets, of -log p_i with p_i = exp(output_i - log_normaliser).

    With the logarithm of the sum of exp(output) over all items as normaliser this is the multinomial log likelihood
    of Liang, Krishnan, Hoffman and Jebara, "Variational Autoencoders for Collaborative Filtering", WWW 2018, equation
    2, by interaction instead of summed over a user's. Rows whose target is not positive count for nothing.

    Args:
      output: `[B, N]`, logits.
      log_normaliser: `[B]`.
      target: `[B, N]`.
      length: `[B]` int32.
    """
    mask, (output, target) = _clean(length, output, target)
    weight = mask * tf.nn.relu(target)
    loss = tf.reduce_sum(weight * (log_normaliser[:, None] - output), axis=1)
    return tf.math.divide_no_nan(loss, tf.reduce_sum(weight, axis=1))


def gaussian_likelihood(output: tf.Tensor, variance: tf.Tensor, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Mean negative log likelihood of the targets under normal distributions.

    Args:
      output: `[B, N]`, means.
      variance: `[B, N]`, positive.
      target: `[B, N]`.
      length: `[B]` int32.
    """
    mask, (output, target, variance) = _clean(length, output, target, variance)
    variance = tf.where(mask > 0, variance, tf.ones_like(variance))
    loss = 0.5 * (tf.math.log(2 * math.pi * variance) + tf.math.squared_difference(output, target) / variance)
    return _mean(loss, mask)


LOSSES: dict[str, TaskLoss] = {
    "squared_error": squared_error,
    "binary_cross_entropy": binary_cross_entropy,
    "pairwise": pairwise,
}
# An outer loss that compares the query's positives with all items, see `Learner.query_loss`.
SOFTMAX = "softmax"
# Unit of the label -> (inner loss, outer loss). The support of implicit feedback holds positives only, from
# which a pairwise loss would learn nothing.
BY_UNIT = {
    "rating": ("squared_error", "squared_error"),
    "click": ("binary_cross_entropy", "binary_cross_entropy"),
    "weight": ("binary_cross_entropy", "pairwise"),
}


def loss_for(label: Label, *, part: str, name: str | None = None) -> TaskLoss | None:
    """Returns the loss called `name`, or the default of the label's unit; None for `softmax`, which needs more.

    Args:
      label: of the data.
      part: `inner` or `outer`.
      name: one of `LOSSES`, for the outer part also `softmax`; or None.

    Raises:
      ConfigError: if the name is unknown or the loss does not fit the unit.
    """
    name = name or BY_UNIT[label.unit][0 if part == "inner" else 1]
    known = [*LOSSES, *([SOFTMAX] if part == "outer" else [])]
    if name not in known:
        raise ConfigError(f"'learner.{part}_loss' received '{name}'.{suggest(name, known)}")
    if name in ("binary_cross_entropy", SOFTMAX) and label.unit == "rating":
        raise ConfigError(f"'learner.{part}_loss' {name} requires implicit feedback (label unit click or weight), "
                          f"received unit rating. Use squared_error or pairwise.")
    return LOSSES.get(name)


# The gradients below are TensorFlow's own, without what those do to find out which axes were broadcast.
def _clean(length, output, target, *more):
    # The target's width, which stays the same from step to step, so that a graph has one mask for all of them.
    mask = tf.sequence_mask(length, tf.shape(target)[1])

    @tf.custom_gradient
    def real(value):
        return tf.where(mask, value, tf.zeros_like(value)), lambda g: tf.where(mask, g, tf.zeros_like(g))

    return tf.cast(mask, output.dtype), [real(v) for v in (output, target, *more)]


def _mean(loss, mask):
    count = tf.reduce_sum(mask, axis=1)

    @tf.custom_gradient
    def mean(loss):
        return (tf.math.divide_no_nan(tf.reduce_sum(loss * mask, axis=1), count),
                lambda g: tf.math.divide_no_nan(g, count)[:, None] * mask)

    return mean(loss)


@tf.custom_gradient
def _squared_difference(left, right):
    def gradient(g):
        by_left = 2.0 * g * (left - right)
        return by_left, -by_left

    return tf.math.squared_difference(left, right), gradient
