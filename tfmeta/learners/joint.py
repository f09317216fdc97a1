"""Joint training without adaptation: what every adaptation must beat."""

import keras
import tensorflow as tf

from tfmeta.learners.learner import Learner
from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.fast_weights import Fast


@keras.saving.register_keras_serializable("tfmeta")
class Joint(Learner):
    """Trains one model on everybody's interactions and never adapts it.

        adapt(theta, support) = theta,     task loss = L_{support and query}(theta)

    The plain empirical risk of a task's rows, support and query alike: a row is a training example whichever side it
    was drawn to, so the model sees as many labels as a meta-learner does. Scores depend on features and ids alone;
    adapted and unadapted scores are equal.

    Source: Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
    section 5.1: the comparison "pretraining on all of the tasks", at zero gradient steps. Deviations: rows come task by
    task instead of shuffled, and each task counts alike whatever its number of rows, as in the outer loss of a learner.

    Args:
      model: the model; its scope only decides the form of its weights.
      outer_loss: name of the loss; None takes the default of the label's unit.
    """

    def __init__(self, model, *, outer_loss: str | None = None, name: str = "joint", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        self.built = True

    def adapt(self, fast: Fast, support: Support) -> Fast:
        return fast

    def task_loss(self, support, query, *, target, length, progress):
        item = tf.concat([support.item, query.item], axis=1)
        joined = tf.concat([support.target, target], axis=1)
        # A loss reads the first `length` rows: real rows come first, in their order.
        widths = tf.shape(support.target)[1], tf.shape(target)[1]
        real = tf.concat([tf.sequence_mask(n, w) for n, w in zip((support.length, length), widths, strict=True)],
                         axis=1)
        order = tf.argsort(tf.cast(~real, tf.int32), axis=1, stable=True)
        item, joined = (tf.gather(x, order, axis=1, batch_dims=1) for x in (item, joined))
        rows = Query(user=query.user, item=item, catalogue=query.catalogue and query.catalogue.unseen())
        return self.query_loss(self.init(support.user), rows, target=joined, length=support.length + length)
