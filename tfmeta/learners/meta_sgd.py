"""Meta-SGD: the update's direction and rate are learned, too."""

from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.learners.inner_loop import Rates
from tfmeta.learners.maml import MAML, fast_shapes
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class MetaSGD(MAML):
    """MAML with a learned rate for every single fast weight, of either sign.

        theta_1 = theta_0 - alpha o grad L_support(theta_0),   outer loss = L_query(theta_1)

    where o is the element-wise product; the outer loop minimises by theta_0 and alpha. Source: Li, Zhou, Chen and Li,
    "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017, section 3.1, equation 3. Other than in `MAML`
    with `learn_rates: per_element`, a rate may become negative or zero, as in the paper, so that some weights need not
    follow the gradient. Deviations: alpha starts at one value instead of random ones; more steps than one are allowed
    and share alpha; shrinkage and clipping as in `MAML`.

    Args:
      model: whose fast weights adapt.
      inner_steps: number of gradient steps; 0 is the plain model.
      inner_learning_rate: the initial value of every alpha.
      first_order: ignore second derivatives.
      shrinkage, clip_norm, inner_loss, outer_loss: as in `MAML`.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    NAME: ClassVar[str] = "meta_sgd"

    def __init__(self, model: MetaModel, *, inner_steps: int = 1, inner_learning_rate: float = 0.1,
                 first_order: bool = False, shrinkage: float = 0.0, clip_norm: float | None = None,
                 inner_loss: str | None = None, outer_loss: str | None = None, name: str | None = None, **kwargs):
        super().__init__(model, inner_steps=inner_steps, inner_learning_rate=inner_learning_rate, learn_rates="fixed",
                         first_order=first_order, shrinkage=shrinkage, clip_norm=clip_norm, inner_loss=inner_loss,
                         outer_loss=outer_loss, name=name, **kwargs)
        del self._config["learn_rates"]
        self._element_rates = {
            key: self.add_weight(name=f"inner_rate_{key}", shape=shape,
                                 initializer=keras.initializers.Constant(inner_learning_rate))
            for key, shape in fast_shapes(model).items()}

    def inner_learning_rates(self) -> dict[str, tf.Tensor]:
        return {key: tf.convert_to_tensor(rate) for key, rate in self._element_rates.items()}

    def _rates(self, fast: Fast) -> Rates:
        return self.inner_learning_rates()
