"""MAML++: rates by layer and step, losses of all steps, annealed derivative order."""

import math
from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.inner_loop import Rates, trajectory
from tfmeta.learners.maml import MAML, fast_shapes
from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class MAMLPlusPlus(MAML):
    """MAML with the remedies of "How to train your MAML".

        theta_{t+1} = theta_t - alpha_{l,t} * grad L_support(theta_t)         alpha learned per layer l and step t
        outer loss  = sum over t = 1..T of v_t L_query(theta_t)
        v_t = (1 - a) / T + a [t = T],   a = min(progress / multi_step_share, 1)

    and second derivatives are ignored while progress < first_order_share, progress being the share of the outer steps
    that are done. Source: Antoniou, Edwards and Storkey, "How to train your MAML", ICLR 2019, section 4: multi-step
    loss (equation 3), derivative-order annealing, learned rates per layer and step. Deviations: kernel and bias of a
    layer have rates of their own, kept positive through their logarithms; v anneals linearly to the last step alone,
    without the small remainder of the authors' code; there is no batch normalisation here, so its per-step statistics
    and biases do not arise; the outer rate's cosine schedule is the trainer's. Adaptation takes the last theta. One
    graph serves all phases, so the first-order phase is no cheaper: set both shares to 0 for the cost of `MAML`.

    Args:
      model: whose fast weights adapt.
      inner_steps: number of gradient steps T; 0 is the plain model.
      inner_learning_rate: the initial value of every alpha.
      multi_step_share: share of the outer steps in which the losses of earlier inner steps count, 0 to 1.
      first_order_share: share of the outer steps that ignore second derivatives, 0 to 1.
      shrinkage, clip_norm, inner_loss, outer_loss: as in `MAML`.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    NAME: ClassVar[str] = "maml_plus_plus"

    def __init__(self, model: MetaModel, *, inner_steps: int = 5, inner_learning_rate: float = 0.1,
                 multi_step_share: float = 0.3, first_order_share: float = 0.3, shrinkage: float = 0.0,
                 clip_norm: float | None = None, inner_loss: str | None = None, outer_loss: str | None = None,
                 name: str | None = None, **kwargs):
        super().__init__(model, inner_steps=inner_steps, inner_learning_rate=inner_learning_rate, learn_rates="fixed",
                         shrinkage=shrinkage, clip_norm=clip_norm, inner_loss=inner_loss, outer_loss=outer_loss,
                         name=name, **kwargs)
        for key, value in (("multi_step_share", multi_step_share), ("first_order_share", first_order_share)):
            require(0 <= value <= 1, f"learner.{key}", "0 to 1", value)
        del self._config["learn_rates"], self._config["first_order"]
        self._config |= {"multi_step_share": multi_step_share, "first_order_share": first_order_share}
        self.multi_step_share, self.first_order_share = multi_step_share, first_order_share
        self._log_step_rates = {
            key: self.add_weight(name=f"log_inner_rate_{key}", shape=(inner_steps,),
                                 initializer=keras.initializers.Constant(math.log(inner_learning_rate)))
            for key in (fast_shapes(model) if inner_steps else ())}

    def task_loss(self, support: Support, query: Query, *, target: tf.Tensor, length: tf.Tensor,
                  progress: tf.Tensor) -> tf.Tensor:
        fast, first_order = self.init(support.user), False
        if self.first_order_share:
            first_order = progress < self.first_order_share
        descent = {**self._descent(fast, support), "first_order": first_order}
        path = [fast, *trajectory(self.model, fast, support, **descent)]

        def query_loss(weights: Fast) -> tf.Tensor:
            return self.query_loss(weights, query, target=target, length=length)

        last = query_loss(path[-1])
        if not self.multi_step_share or self.inner_steps < 2:
            return last
        annealed = tf.minimum(progress / self.multi_step_share, 1.0)
        mean = tf.add_n([*map(query_loss, path[1:-1]), last]) / self.inner_steps
        return (1 - annealed) * mean + annealed * last

    def inner_learning_rates(self) -> dict[str, tf.Tensor]:
        return {key: tf.exp(tf.convert_to_tensor(rate)) for key, rate in self._log_step_rates.items()}

    def _rates(self, fast: Fast) -> Rates:
        rates = self.inner_learning_rates()
        return [{key: rate[step] for key, rate in rates.items()} for step in range(self.inner_steps)]
