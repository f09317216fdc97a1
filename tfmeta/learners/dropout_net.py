"""DropoutNet: preference inputs that are dropped in training, so that content learns to replace them."""

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.learner import Learner
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class DropoutNet(Learner):
    """A network maps a user's preference input and content to a vector; the preference is at times absent.

        p_u = sum_j r_j v_j / (n + damping)        preference: the items of the support, weighted by their ratings
        w_u = g(x_u) + f([p_u, x_u])               x_u: encoded user; f: one hidden layer
        output = v_i . w_u + offset_i

    `r_j` is what the unadapted model leaves unexplained of the label: `y_j - output_j` of ratings,
    `max(y_j, 1) (1[y_j > 0] - sigmoid(output_j))` of clicks and weights, so that in both cases it is the descent
    direction of the default loss. In training a task's preference is 0 with probability `preference_dropout`: f must
    then do with the user's content. At serving a new user's preference is computed from the support in one forward
    pass; an empty support has preference 0, which is what training dropped to.

    Source: Volkovs, Yu and Poutanen, "DropoutNet: Addressing Cold Start in Recommender Systems", NeurIPS 2017,
    sections 4.1 (input dropout) and 4.2 (the user transform, a mean of item latents, for users met at serving).
    Deviations: trained end to end on labels, where the paper reproduces the scores of a factorisation trained
    before; `v_j` are the model's own item vectors, of which the item id's embedding is the preference input and the
    rest content (its dropout is `item_id_dropout` of the training configuration, which hides an id in support and
    query alike); the mean is weighted by residuals and damped; every user is represented by the transform in
    training too, so training and serving agree. Nothing random is in the serving graph: which tasks are dropped
    is a stateless function of `progress` and the task's place in the meta-batch.

    Args:
      model: with a linear head (`MetaModel.linear`), such as two_tower with scope user_vector.
      units: hidden units of f.
      preference_dropout: probability of dropping a task's preference in training, in [0, 1).
      damping: of the mean, in interactions.
      outer_loss: name of the loss; None takes the default of the label's unit.

    Raises:
      ConfigError: if a value is out of range or the model has no linear head.
    """

    def __init__(self, model: MetaModel, *, units: int = 64, preference_dropout: float = 0.3, damping: float = 2.0,
                 outer_loss: str | None = None, name: str = "dropout_net", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        require(isinstance(units, int) and units >= 1, "learner.units", "at least 1", units)
        require(0 <= preference_dropout < 1, "learner.preference_dropout", "a probability in [0, 1)",
                preference_dropout)
        require(damping >= 0, "learner.damping", "0 or more interactions", damping)
        self._config = {"units": units, "preference_dropout": preference_dropout, "damping": damping}
        self._unit = model.feature_spec.label.unit
        user_width, width = _widths(model)
        self.network = FastDenseStack((units, width), input_width=width + user_width, seed=model.seed,
                                      name="preference")
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        prior = self.model.linear_prior(user)
        return {"weights": prior + self._transform(tf.zeros_like(prior), user)}

    def adapt(self, fast: Fast, support: Support) -> Fast:
        preference = self._preference(fast, support)
        return {"weights": self.model.linear_prior(support.user) + self._transform(preference, support.user)}

    def predict(self, fast: Fast, query: Query) -> Prediction:
        features, offset = self.model.linear(query.user, query.item)
        return Prediction(output=tf.linalg.matvec(features, fast["weights"]) + offset)

    @property
    def has_index(self) -> bool:
        return self.model.has_index

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.model.index_user(self.model.linear_fast(fast["weights"]), user)

    def task_loss(self, support, query, *, target, length, progress):
        fast = self.init(support.user)
        preference = self._preference(fast, support)
        rate = self._config["preference_dropout"]
        if rate:
            seed = tf.stack([tf.bitcast(tf.cast(progress, tf.float32), tf.int32), self.model.seed])
            draw = tf.random.stateless_uniform(tf.shape(length), seed, alg="philox")
            preference = tf.where((draw < rate)[:, None], tf.zeros_like(preference), preference)
        weights = self.model.linear_prior(support.user) + self._transform(preference, support.user)
        return self.query_loss({"weights": weights}, query, target=target, length=length)

    def _preference(self, fast: Fast, support: Support) -> tf.Tensor:
        """Returns the weighted mean of the support's item vectors, `[B, P]`; 0 for an empty support."""
        features, offset = self.model.linear(support.user, support.item)
        output = tf.linalg.matvec(features, fast["weights"]) + offset
        if self._unit == "rating":
            weight = support.target - output
        else:
            weight = tf.maximum(support.target, 1.0) * (tf.cast(support.target > 0, output.dtype) - tf.sigmoid(output))
        mask = tf.sequence_mask(support.length, tf.shape(support.target)[1])
        weight = tf.where(mask, weight, tf.zeros_like(weight))
        total = tf.reduce_sum(features * weight[:, :, None], axis=1)
        count = tf.cast(support.length, total.dtype)[:, None]
        return tf.math.divide_no_nan(total, count + self._config["damping"])

    def _transform(self, preference: tf.Tensor, user: tf.Tensor) -> tf.Tensor:
        output = self.network(tf.concat([preference, user], axis=-1))
        return tf.cast(output, self.variable_dtype)

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}


def _widths(model: MetaModel) -> tuple[int, int]:
    """Returns the widths of an encoded user and of the model's head."""
    def blank(features, lead):
        return {f.name: tf.zeros([*lead, *([f.length] if f.length else [])], tf.int32 if f.num_ids else tf.float32)
                for f in features}

    spec = model.feature_spec
    user = model.encode_user(blank(spec.user_features, [1]), tasks=tf.constant(1))
    item = model.encode_item(blank((spec.item_id, *spec.item_features), [1, 1]))
    features, _ = model.linear(user, item)
    return user.shape[-1], features.shape[-1]
