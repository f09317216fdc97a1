"""Fine-tuning a jointly trained model when it serves."""

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.descent import Descent, is_mean_of_rows
from tfmeta.learners.inner_loop import descend
from tfmeta.learners.joint import Joint
from tfmeta.learners.losses import loss_for
from tfmeta.learners.task_tensors import Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class FineTune(Joint):
    """Trained as `Joint`, adapted at serving by T plain gradient steps; never meta-trained.

        training:  min over theta of L_{support and query}(theta)
        serving:   theta_{t+1} = theta_t - alpha * s(n) * grad L_support(theta_t),   t = 0 .. T - 1

    The adaptation is that of `MAML` with fixed rates; nothing of the training knows of it, so alpha, T and the
    shrinkage `s(n) = n / (n + shrinkage)` (1 by default) are hyper-parameters to be chosen on validation users.

    Source: Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
    section 5.1: pretraining on all tasks, then fine-tuning with a tuned step size. Deviations: those of `Joint`; the
    shrinkage and the clipping, both off by default; only what the model's scope names is tuned.

    Args:
      model: whose fast weights adapt.
      inner_steps: T; 0 is `Joint`.
      inner_learning_rate: alpha.
      shrinkage: interactions at which a step has half of its length; 0 for plain descent.
      clip_norm: bound of each task's gradient norm; None for none.
      inner_loss, outer_loss: names of losses; None takes the default of the label's unit.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    def __init__(self, model: MetaModel, *, inner_steps: int = 5, inner_learning_rate: float = 0.1,
                 shrinkage: float = 0.0, clip_norm: float | None = None, inner_loss: str | None = None,
                 outer_loss: str | None = None, name: str = "fine_tune", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        require(isinstance(inner_steps, int) and inner_steps >= 0, "learner.inner_steps", "0 or more", inner_steps)
        require(inner_learning_rate > 0, "learner.inner_learning_rate", "a positive number", inner_learning_rate)
        require(shrinkage >= 0, "learner.shrinkage", "0 or more interactions", shrinkage)
        require(clip_norm is None or clip_norm > 0, "learner.clip_norm", "a positive number or none", clip_norm)
        self._config = {"inner_steps": inner_steps, "inner_learning_rate": inner_learning_rate,
                        "shrinkage": shrinkage, "clip_norm": clip_norm, "inner_loss": inner_loss}
        self._inner_loss = loss_for(model.feature_spec.label, part="inner", name=inner_loss)

    def adapt(self, fast: Fast, support: Support) -> Fast:
        weight = 1.0
        if self._config["shrinkage"]:
            count = tf.cast(support.length, support.target.dtype)
            weight = count / (count + self._config["shrinkage"])

        def loss(output: tf.Tensor) -> tf.Tensor:
            return weight * self._inner_loss(output, support.target, support.length)

        rates = self.inner_learning_rates()
        return descend(self.model, fast, support, loss=loss, steps=self._config["inner_steps"],
                       rates={key: rates["all"] for key in fast}, first_order=True,
                       clip_norm=self._config["clip_norm"])

    def descent(self, fast: Fast) -> Descent | None:
        if not is_mean_of_rows(self._inner_loss):
            return None
        rates = {key: self.inner_learning_rates()["all"] for key in fast}
        return Descent(self.model, self._inner_loss, (rates,) * self._config["inner_steps"],
                       self._config["shrinkage"], self._config["clip_norm"])

    def inner_learning_rates(self) -> dict[str, tf.Tensor]:
        return {"all": tf.constant(self._config["inner_learning_rate"], self.variable_dtype)}

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}
