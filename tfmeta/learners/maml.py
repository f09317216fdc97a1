"""Model-agnostic meta-learning, second and first order."""

import math
from typing import ClassVar, Literal

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.descent import Descent, is_mean_of_rows
from tfmeta.learners.inner_loop import Rates, descend
from tfmeta.learners.learner import Learner
from tfmeta.learners.losses import loss_for
from tfmeta.learners.task_tensors import Support
from tfmeta.models.fast_weights import Fast, weight_shape
from tfmeta.models.meta_model import MetaModel

RATES = ("fixed", "per_weight", "per_element")


@keras.saving.register_keras_serializable("tfmeta")
class MAML(Learner):
    """Adapts by a few gradient steps on the support loss; the outer loop differentiates through them.

        theta_0 = model's slow weights,   theta_{t+1} = theta_t - alpha * s(n) * grad L_support(theta_t)
        outer loss = L_query(theta_T)

    Source: Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
    section 2.2; the first-order form is section 5.2. Deviations, each off by default but learned rates: alpha may be
    learned per fast weight or per element (kept positive through its logarithm); `shrinkage` tau multiplies the mean
    support gradient by s(n) = n / (n + tau), so that a few interactions move a user less than many do, as a prior
    would have it; per-task gradient clipping.

    Args:
      model: whose fast weights adapt.
      inner_steps: number of gradient steps T; 0 is the plain model.
      inner_learning_rate: alpha, the initial value where it is learned.
      learn_rates: `fixed`, `per_weight` (one per fast weight) or `per_element`.
      first_order: ignore second derivatives.
      shrinkage: tau >= 0, in interactions.
      clip_norm: bound of each task's inner gradient norm; None for none.
      inner_loss, outer_loss: names of losses; None takes the default of the label's unit.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    NAME: ClassVar[str] = "maml"

    def __init__(self, model: MetaModel, *, inner_steps: int = 5, inner_learning_rate: float = 0.1,
                 learn_rates: Literal["fixed", "per_weight", "per_element"] = "per_weight",
                 first_order: bool = False, shrinkage: float = 0.0, clip_norm: float | None = None,
                 inner_loss: str | None = None, outer_loss: str | None = None, name: str | None = None, **kwargs):
        super().__init__(model, name=name or self.NAME, outer_loss=outer_loss, **kwargs)
        require(isinstance(inner_steps, int) and inner_steps >= 0, "learner.inner_steps", "0 or more", inner_steps)
        require(inner_learning_rate > 0, "learner.inner_learning_rate", "a positive number", inner_learning_rate)
        require(learn_rates in RATES, "learner.learn_rates", f"one of {', '.join(RATES)}", learn_rates)
        require(shrinkage >= 0, "learner.shrinkage", "0 or more interactions", shrinkage)
        require(clip_norm is None or clip_norm > 0, "learner.clip_norm", "a positive number or none", clip_norm)
        self._config = {"inner_steps": inner_steps, "inner_learning_rate": inner_learning_rate,
                        "learn_rates": learn_rates, "first_order": first_order, "shrinkage": shrinkage,
                        "clip_norm": clip_norm, "inner_loss": inner_loss}
        self.inner_steps, self.first_order = inner_steps, first_order
        self.shrinkage, self.clip_norm = shrinkage, clip_norm
        self._inner_loss = loss_for(model.feature_spec.label, part="inner", name=inner_loss)
        self._fixed_rate = inner_learning_rate if learn_rates == "fixed" else None
        self._log_rates = {}
        if learn_rates != "fixed":
            self._log_rates = {
                key: self.add_weight(name=f"log_inner_rate_{key}", shape=shape if learn_rates == "per_element" else (),
                                     initializer=keras.initializers.Constant(math.log(inner_learning_rate)))
                for key, shape in fast_shapes(model).items()}
        self.built = True

    def adapt(self, fast: Fast, support: Support) -> Fast:
        return descend(self.model, fast, support, **self._descent(fast, support))

    def descent(self, fast: Fast) -> Descent | None:
        if not is_mean_of_rows(self._inner_loss):
            return None
        rates = self._rates(fast)
        steps = (rates,) * self.inner_steps if isinstance(rates, dict) else tuple(rates)
        return Descent(self.model, self._inner_loss, steps, self.shrinkage, self.clip_norm)

    def _descent(self, fast: Fast, support: Support) -> dict:
        """Returns what `descend` takes beside model, fast weights and support."""
        # A Python float where there is no shrinkage, so that the plain algorithm stays plain.
        weight = 1.0
        if self.shrinkage:
            count = tf.cast(support.length, support.target.dtype)
            weight = count / (count + self.shrinkage)

        def loss(output: tf.Tensor) -> tf.Tensor:
            return weight * self._inner_loss(output, support.target, support.length)

        return {"loss": loss, "steps": self.inner_steps, "rates": self._rates(fast), "first_order": self.first_order,
                "clip_norm": self.clip_norm}

    def inner_learning_rates(self) -> dict[str, tf.Tensor]:
        return {key: tf.exp(tf.convert_to_tensor(v)) for key, v in self._log_rates.items()}

    def _rates(self, fast: Fast) -> Rates:
        if self._fixed_rate is not None:
            return {key: tf.constant(self._fixed_rate, self.variable_dtype) for key in fast}
        return self.inner_learning_rates()

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}


def fast_shapes(model: MetaModel) -> dict[str, tf.TensorShape]:
    """Returns the shape of one user's fast weights, by name."""
    features = {f.name: tf.zeros([1, *([f.length] if f.length else [])],
                                 tf.int32 if f.num_ids else tf.float32)
                for f in model.feature_spec.user_features}
    user = model.encode_user(features, tasks=tf.constant(1))
    return {key: weight_shape(value) for key, value in model.initial_fast(user).items()}
