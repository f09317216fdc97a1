"""Linear weight adaptation."""

import keras
import numpy as np
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.class_means import ClassMeans
from tfmeta.learners.encoded_widths import one_item, one_user
from tfmeta.learners.learner import Learner
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class LWA(Learner):
    """The user's weights are a linear combination of the mean items of each class of past labels.

        R_c = mean of F(v_j) over the support's items of class c
        output(v) = F(v) . (w_0 R_0 + w_1 R_1) + b

    Source: Vartak et al., "A Meta-Learning Perspective on Cold-Start Recommendations for Items", NeurIPS 2017, section
    3.1. F is the model's item tower (`MetaModel.linear`), so an index over item vectors stays valid.

    Ratings need classes. By default a rating at or above the label's threshold is positive and all others negative,
    as in the paper; `boundaries` makes several classes of a scale, each with its own w_c. Implicit feedback has
    positives only, so the negative class stays empty.

    Deviations: what the combination gives is added to the unadapted weights and offset, which know the user's
    features; w_c is a vector, one factor per dimension, unless `per_dimension` is off; means are damped (see
    `ClassMeans`), so that a support of one item says less than one of twenty; the bias of the user moves by
    sum_c s_c share_c, what a user's mean label is to a bias model. `shrinkage=0, per_dimension=False,
    adapt_bias=False` is the paper.

    Args:
      model: with a linear head, such as two_tower with scope user_vector and similarity dot.
      boundaries: labels that separate classes, in the label's own unit; None takes the threshold.
      per_dimension: a factor for each dimension of F instead of one for each class.
      adapt_bias: adapt the user's bias by the classes' shares.
      shrinkage: initial tau, in interactions; 0 for plain means.
      outer_loss: name of a loss; None takes the default of the label's unit.

    Raises:
      ConfigError: if the model has no linear head, a value is out of range or the loss does not fit the unit.
    """

    def __init__(self, model: MetaModel, *, boundaries: tuple[float, ...] | None = None, per_dimension: bool = True,
                 adapt_bias: bool = True, shrinkage: float = 2.0, outer_loss: str | None = None, name: str = "lwa",
                 **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        require(isinstance(per_dimension, bool), "learner.per_dimension", "true or false", per_dimension)
        self._config = {"boundaries": None if boundaries is None else list(boundaries),
                        "per_dimension": per_dimension, "adapt_bias": adapt_bias, "shrinkage": shrinkage}
        width = model.linear(one_user(model), one_item(model))[0].shape[-1]
        self.means = ClassMeans(model.feature_spec.label, boundaries=boundaries, shrinkage=shrinkage)
        classes = self.means.classes
        # Liked items attract and disliked ones repel, a little.
        start = np.linspace(-0.1, 0.1, classes)[:, None]
        self.factors = self.add_weight(name="class_factors", shape=(classes, width if per_dimension else 1),
                                       initializer=lambda shape, dtype=None: tf.cast(
                                           np.broadcast_to(start, shape), dtype))
        self.bias_factors = (self.add_weight(name="class_bias", shape=(classes,), initializer="zeros")
                             if adapt_bias else None)
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        return {"weights": self.model.linear_prior(user), "bias": tf.zeros_like(user[:, :1])}

    def adapt(self, fast: Fast, support: Support) -> Fast:
        means, shares = self.means.summarise(
            lambda share: self.model.linear_sums(share, support.user, support.item), support)
        weights = fast["weights"] + tf.reduce_sum(tf.convert_to_tensor(self.factors) * means, axis=1)
        bias = fast["bias"]
        if self.bias_factors is not None:
            bias += tf.linalg.matvec(shares, tf.convert_to_tensor(self.bias_factors))[:, None]
        return {"weights": weights, "bias": bias}

    def predict(self, fast: Fast, query: Query) -> Prediction:
        features, offset = self.model.linear(query.user, query.item)
        return Prediction(output=tf.linalg.matvec(features, fast["weights"]) + fast["bias"] + offset)

    @property
    def has_index(self) -> bool:
        return self.model.has_index

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        vector, offset = self.model.index_user(self.model.linear_fast(fast["weights"]), user)
        return vector, offset + fast["bias"][:, 0]

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}
