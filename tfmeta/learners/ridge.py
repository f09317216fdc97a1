"""Differentiable ridge regression head."""

import math
from typing import Literal

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.errors import ConfigError
from tfmeta.learners.learner import Learner
from tfmeta.learners.linear_head import head_width
from tfmeta.learners.linear_solve import solve_ridge, whitening_scale
from tfmeta.learners.linear_system import LinearSystem
from tfmeta.learners.logistic_solve import solve_logistic
from tfmeta.learners.losses import BY_UNIT, loss_for
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel

# Beyond that many standard deviations a label is dropped; the bound keeps its square a float.
LARGEST_TARGET = 1e15
# Bound of the logarithm of lambda, far from both ends of the floats.
LARGEST_LOG = 20.0


@keras.saving.register_keras_serializable("tfmeta")
class Ridge(Learner):
    """Solves a user's weights by ridge regression around the meta-learned prior; the outer loop differentiates it.

        output = phi(item) . w + offset(item),   w_0 = prior(user)
        w = w_0 + argmin_d sum_i (y_i - phi_i . w_0 - offset_i - phi_i . d)^2 + sum_j lambda_j d_j^2

    For clicks and weights the square becomes the logistic loss (inner loss `binary_cross_entropy`), minimised by a
    fixed number of Newton steps, each of which is such a ridge system.

    Source: Bertinetto, Henriques, Torr and Vedaldi, "Meta-learning with Differentiable Closed-Form Solvers", ICLR 2019,
    sections 3.2 (R2-D2, equations 3 to 5, the Woodbury form equation 6) and 3.3 (LR-D2, logistic by Newton's method).
    Deviations: the prior is the model's own user vector instead of zero, so an empty support is the unadapted model;
    lambda is one number per dimension, learned through its logarithm (`regularisation="shared"` is the paper's
    scalar); no scale and offset is learned for the output, since the item tower can learn both; Newton steps are
    damped so that none increases the loss.

    Args:
      model: with a linear head.
      initial_regularisation: lambda at the start, in interactions; positive.
      regularisation: `per_dimension` or `shared` (one lambda for all).
      newton_steps: of the logistic loss; at least 1.
      inner_loss: `squared_error` or `binary_cross_entropy`; None takes the default of the label's unit.
      outer_loss: name of the loss on the query set; None takes the default of the label's unit.

    Raises:
      ConfigError: if the model has no linear head, a value is out of range or a loss does not fit the label's unit.
    """

    def __init__(self, model: MetaModel, *, initial_regularisation: float = 1.0,
                 regularisation: Literal["per_dimension", "shared"] = "per_dimension", newton_steps: int = 5,
                 inner_loss: str | None = None, outer_loss: str | None = None, name: str = "ridge", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        require(initial_regularisation > 0, "learner.initial_regularisation", "a positive number",
                initial_regularisation)
        require(regularisation in ("per_dimension", "shared"), "learner.regularisation",
                "'per_dimension' or 'shared'", regularisation)
        require(isinstance(newton_steps, int) and newton_steps >= 1, "learner.newton_steps", "1 or more", newton_steps)
        self._config = {"initial_regularisation": initial_regularisation, "regularisation": regularisation,
                        "newton_steps": newton_steps, "inner_loss": inner_loss}
        self.logistic = is_logistic(model, inner_loss)
        self.newton_steps = newton_steps
        self.width = head_width(model)
        self._log_precision = self.add_weight(
            name="log_precision", shape=(self.width,) if regularisation == "per_dimension" else (1,),
            initializer=keras.initializers.Constant(math.log(initial_regularisation)))
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        return {"weights": self.model.linear_prior(user)}

    def adapt(self, fast: Fast, support: Support) -> Fast:
        features, offset = self.model.linear(support.user, support.item)
        prior = fast["weights"]
        output = tf.linalg.matvec(features, prior) + offset
        if self.logistic:
            delta = solve_logistic(features, output, target=support.target, length=support.length,
                                   precision=self.precision(), steps=self.newton_steps)
        else:
            delta = solve_ridge(features, support.target - output, precision=self.precision(),
                                row_weight=usable_rows(support))
        return {"weights": prior + delta}

    def linear_system(self, fast: Fast, support: Support) -> LinearSystem | None:
        if self.logistic:
            return None
        features, offset = self.model.linear(support.user, support.item)
        used = usable_rows(support)
        residual = support.target - offset - tf.linalg.matvec(features, fast["weights"])
        scale = whitening_scale(self.precision())[:, None, :]
        return LinearSystem(prior=fast["weights"],
                            rows=tf.where(used[..., None], features * scale, tf.zeros_like(features)),
                            target=tf.where(used, residual, tf.zeros_like(residual)), whiten=lambda x: x * scale)

    def predict(self, fast: Fast, query: Query) -> Prediction:
        return Prediction(output=self.model.linear_output(fast["weights"], query.user, query.item))

    @property
    def has_index(self) -> bool:
        return self.model.has_index

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.model.index_user(self.model.linear_fast(fast["weights"]), user)

    def precision(self) -> tf.Tensor:
        """Returns lambda `[P]`, or `[1]` where it is shared."""
        return tf.exp(tf.clip_by_value(tf.convert_to_tensor(self._log_precision), -LARGEST_LOG, LARGEST_LOG))

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}


def is_logistic(model: MetaModel, inner_loss: str | None) -> bool:
    """Tells whether the inner loss is logistic; ConfigError if it is neither that nor squared, or does not fit."""
    label = model.feature_spec.label
    loss_for(label, part="inner", name=inner_loss)
    name = inner_loss or BY_UNIT[label.unit][0]
    if name not in ("squared_error", "binary_cross_entropy"):
        raise ConfigError(f"'learner.inner_loss' of a closed-form learner requires squared_error or "
                          f"binary_cross_entropy, received '{name}'.")
    return name == "binary_cross_entropy"


def usable_rows(support: Support) -> tf.Tensor:
    """Returns which rows `[B, S]` count: real ones whose target is a number of a size that means something."""
    bounded = tf.abs(support.target) <= LARGEST_TARGET
    return tf.sequence_mask(support.length, tf.shape(support.target)[1]) & bounded
