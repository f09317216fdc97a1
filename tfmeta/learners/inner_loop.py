"""Gradient steps on fast weights: pure functions of tensors."""

from collections.abc import Callable

import tensorflow as tf

from tfmeta.models.meta_model import Fast


def gradient_step(fast: Fast, *, loss: Callable[[Fast], tf.Tensor], rates: dict[str, tf.Tensor],
                  first_order: bool, clip_norm: float | None = None) -> Fast:
    """One inner step `fast - rate * gradient`, for all tasks at once.

    Tasks do not share fast weights, so the gradient of the summed loss holds each task's own gradient.

    Args:
      fast: name -> `[B, ...]`.
      loss: fast weights -> `[B]`.
      rates: name -> inner learning rate, broadcastable to the fast weight.
      first_order: treat the gradient as a constant in the outer loop.
      clip_norm: bound of each task's gradient norm over all its fast weights; None for no bound.

    Returns:
      name -> `[B, ...]`.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(fast)
        total = tf.reduce_sum(loss(fast))
    gradients = tape.gradient(total, fast, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if first_order:
        gradients = {name: tf.stop_gradient(g) for name, g in gradients.items()}
    if clip_norm is not None:
        gradients = clip_by_task_norm(gradients, clip_norm=clip_norm)
    return {name: value - rates[name] * gradients[name] for name, value in fast.items()}


def clip_by_task_norm(gradients: Fast, *, clip_norm: float) -> Fast:
    """Scales each task's gradients down to a joint norm of at most `clip_norm`; name -> `[B, ...]`."""
    squares = [tf.reduce_sum(tf.square(g), axis=list(range(1, g.shape.rank))) for g in gradients.values()]
    # The floor keeps the derivative of the root finite where a gradient is zero.
    norm = tf.sqrt(tf.maximum(tf.add_n(squares), 1e-24))
    scale = tf.minimum(clip_norm / norm, 1.0)
    return {name: g * tf.reshape(scale, [-1] + [1] * (g.shape.rank - 1)) for name, g in gradients.items()}
