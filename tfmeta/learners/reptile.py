"""Reptile: the outer step follows where plain training on the task went."""

from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.learners.maml import MAML
from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.fast_weights import materialise
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class Reptile(MAML):
    """Trains on each task, then moves the slow weights towards the result; no second derivatives at all.

        theta_{t+1} = theta_t - alpha * grad L_task(theta_t),   meta-gradient = (theta_0 - theta_T) / alpha

    Source: Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018, section 2, algorithm 1; the
    division by alpha is that of the section's last paragraph, for use with an adaptive optimizer. As there, a task is
    not split in training: the T steps see support and query together. The outer loop minimises a surrogate,

        <theta_0, c> / alpha  with the constant  c = theta_0 - theta_T,

    whose gradient by theta_0 is the meta-gradient; where theta_0 is computed (a user tower), it goes on from there.
    Slow weights that the scope does not adapt (embedding tables, an item tower) have no theta_T: they receive the
    gradient of the query loss at theta_T held constant, and that loss is also the reported value. Deviations: that,
    and full-batch steps with a fixed rate instead of mini-batches.

    Args:
      model: whose fast weights adapt.
      inner_steps: number of gradient steps T; 0 is the plain model, of which only what does not adapt is trained.
      inner_learning_rate: alpha.
      shrinkage, clip_norm, inner_loss, outer_loss: as in `MAML`.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    NAME: ClassVar[str] = "reptile"

    def __init__(self, model: MetaModel, *, inner_steps: int = 5, inner_learning_rate: float = 0.1,
                 shrinkage: float = 0.0, clip_norm: float | None = None, inner_loss: str | None = None,
                 outer_loss: str | None = None, name: str | None = None, **kwargs):
        super().__init__(model, inner_steps=inner_steps, inner_learning_rate=inner_learning_rate, learn_rates="fixed",
                         first_order=True, shrinkage=shrinkage, clip_norm=clip_norm, inner_loss=inner_loss,
                         outer_loss=outer_loss, name=name, **kwargs)
        del self._config["learn_rates"], self._config["first_order"]

    def task_loss(self, support: Support, query: Query, *, target: tf.Tensor, length: tf.Tensor,
                  progress: tf.Tensor) -> tf.Tensor:
        tasks = tf.shape(length)[0]
        start = self.init(support.user)
        end = materialise(self.adapt(start, _whole_task(support, query, target, length)), tasks=tasks)
        start, end = materialise(start, tasks=tasks), {key: tf.stop_gradient(value) for key, value in end.items()}
        surrogate = tf.add_n([
            tf.reduce_sum(tf.reshape(value * (tf.stop_gradient(value) - end[key]), [tasks, -1]), axis=1)
            for key, value in start.items()]) / self._fixed_rate
        loss = self.query_loss(end, query, target=target, length=length)
        return loss + (surrogate - tf.stop_gradient(surrogate))


def _whole_task(support: Support, query: Query, target: tf.Tensor, length: tf.Tensor) -> Support:
    """Joins support and query rows, the real ones first."""
    width, total = tf.shape(support.target)[1], support.length + length
    position = tf.range(width + tf.shape(target)[1])[None, :]
    skipped = tf.where(position < support.length[:, None], 0, (width - support.length)[:, None])
    mask = position < total[:, None]
    index = tf.where(mask, position + skipped, 0)

    def join(first, second):
        return tf.gather(tf.concat([first, second], axis=1), index, batch_dims=1)

    item, target = join(support.item, query.item), join(support.target, target)
    return Support(user=support.user, item=tf.where(mask[..., None], item, tf.zeros_like(item)),
                   target=tf.where(mask, target, tf.zeros_like(target)), length=total)
