"""Memory-augmented meta-optimisation."""

import math

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.descent import Descent, is_mean_of_rows
from tfmeta.learners.encoded_widths import encoded_widths
from tfmeta.learners.inner_loop import plain_descend
from tfmeta.learners.learner import Learner
from tfmeta.learners.losses import loss_for
from tfmeta.learners.support_rows import run_dense
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast, materialise
from tfmeta.models.layers import seeds
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.meta_model import MetaModel

_USER, _PREFERENCE = "user", "preference"


@keras.saving.register_keras_serializable("tfmeta")
class MAMO(Learner):
    """Reads each user's starting point from memories by profile, then takes gradient steps on the support.

        attention      a = softmax(beta cos(p_u, M_P))                      over the K rows of the profile memory
        user           u_0 = u - a^T M_U                                    feature-specific memory, K x Du
        preference     M_0 = a^T M_UI                                       task-specific memory, K x de x 2 de
        output         f(v) = base(u_0, v) + g(M [A u_0; B v])              g: decision layers, weights w
        local update   (u, M, w)_{t+1} = (u, M, w)_t - rho s(n) grad L_support

    Source: Dong et al., "MAMO: Memory-Augmented Meta-Optimization for Cold-start Recommendation", KDD 2020, section
    3.2 (equations 4 to 8: attention, personalised initialisation, preference memory) and 3.3 (local update).

    Deviations: the paper overwrites the memories after every training task by moving averages, M_P <- alpha a p_u^T +
    (1 - alpha) M_P and likewise M_U with the user's gradient and M_UI with the adapted M; a learner here is a pure
    function, so the memories are slow weights that the outer loop learns by gradient, and tau is part of M_U. What the
    paper shifts and adapts are the parameters of the user's embedding layers; here it is the embedded user itself,
    since tables never adapt, and items do not adapt, so their vectors may be computed beforehand. The decision layers'
    output is added to the model's own. The attention's sharpness beta and the rates rho are learned, and s(n) = n / (n
    + shrinkage) moves a user with few interactions less.

    Args:
      model: gives encoded users and items and the base output; its scope decides what these are.
      memories: K, rows of each memory.
      preference_dim: de, width of the projected user and item.
      units: hidden units of the decision layers.
      inner_steps: gradient steps; 0 leaves the user where the memories say.
      inner_learning_rate: rho's initial value, learned per fast weight.
      shrinkage: in interactions, >= 0.
      first_order: ignore second derivatives.
      inner_loss, outer_loss: names of losses; None takes the default of the label's unit.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    def __init__(self, model: MetaModel, *, memories: int = 8, preference_dim: int = 16, units: tuple[int, ...] = (16,),
                 inner_steps: int = 3, inner_learning_rate: float = 0.1, shrinkage: float = 5.0,
                 first_order: bool = False, inner_loss: str | None = None, outer_loss: str | None = None,
                 name: str = "mamo", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        for key, value, least in (("memories", memories, 1), ("preference_dim", preference_dim, 1),
                                  ("inner_steps", inner_steps, 0)):
            require(value >= least, f"learner.{key}", f"at least {least}", value)
        require(all(width >= 1 for width in units), "learner.units", "positive widths", list(units))
        require(inner_learning_rate > 0, "learner.inner_learning_rate", "a positive number", inner_learning_rate)
        require(shrinkage >= 0, "learner.shrinkage", "0 or more interactions", shrinkage)
        self._config = {"memories": memories, "preference_dim": preference_dim, "units": list(units),
                        "inner_steps": inner_steps, "inner_learning_rate": inner_learning_rate,
                        "shrinkage": shrinkage, "first_order": first_order, "inner_loss": inner_loss}
        self.inner_steps, self.shrinkage, self._first_order = inner_steps, shrinkage, first_order
        self._inner_loss = loss_for(model.feature_spec.label, part="inner", name=inner_loss)
        user, item = encoded_widths(model)
        seed, dim = model.seed, preference_dim
        # The profile ends with a constant: users without features have one, too.
        self.profile_memory = self.add_weight(name="profile_memory", shape=(memories, user + 1),
                                              initializer=seeds.normal(seed, f"{name}_profile", 1.0))
        self.user_memory = self.add_weight(name="user_memory", shape=(memories, user),
                                           initializer=seeds.normal(seed, f"{name}_user", 0.01))
        self.preference_memory = self.add_weight(
            name="preference_memory", shape=(memories, dim, 2 * dim),
            initializer=seeds.normal(seed, f"{name}_preference", (2 * dim) ** -0.5))
        self.log_sharpness = self.add_weight(name="log_sharpness", shape=(),
                                             initializer=keras.initializers.Constant(math.log(4.0)))
        self.user_projection = FastDenseStack((dim,), input_width=user, seed=seed, name=f"{name}_user_projection")
        self.item_projection = FastDenseStack((dim,), input_width=item, seed=seed, name=f"{name}_item_projection")
        self.decision = FastDenseStack((*units, 1), input_width=dim, seed=seed, name=f"{name}_decision")
        self._log_rates = {
            key: self.add_weight(name=f"log_inner_rate_{key}", shape=(),
                                 initializer=keras.initializers.Constant(math.log(inner_learning_rate)))
            for key in (_USER, _PREFERENCE, *self.decision.initial_fast())}
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        attention = self.attention(user)
        start = {_USER: user - tf.linalg.matmul(attention, tf.convert_to_tensor(self.user_memory)),
                 _PREFERENCE: tf.tensordot(attention, tf.convert_to_tensor(self.preference_memory), axes=1)}
        return {**start, **materialise(self.decision.initial_fast(), tasks=tf.shape(user)[0])}

    def attention(self, user: tf.Tensor) -> tf.Tensor:
        """Returns how much of each memory row a user `[B, Du]` gets: `[B, K]`, rows sum to 1."""
        profile = tf.concat([user, tf.ones([tf.shape(user)[0], 1], user.dtype)], axis=-1)
        cosine = tf.linalg.matmul(tf.math.l2_normalize(profile, axis=-1, epsilon=1e-12), tf.math.l2_normalize(
            tf.convert_to_tensor(self.profile_memory), axis=-1, epsilon=1e-12), transpose_b=True)
        return tf.nn.softmax(tf.exp(tf.convert_to_tensor(self.log_sharpness)) * cosine)

    def apply(self, fast: Fast, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Scores items under fast weights: `[B, N]`; the encoded `user` counts only through them."""
        del user
        user, dim = fast[_USER], self._config["preference_dim"]
        from_user, from_item = tf.split(fast[_PREFERENCE], 2, axis=-1)
        hidden = tf.linalg.matmul(run_dense(self.item_projection, item), from_item, transpose_b=True)
        hidden += tf.linalg.matmul(run_dense(self.user_projection, user[:, None, :]), from_user, transpose_b=True)
        hidden = tf.nn.leaky_relu(tf.ensure_shape(hidden, [None, None, dim]), alpha=0.01)
        decided = tf.cast(self.decision(hidden, fast=fast, constant=False), self.variable_dtype)[..., 0]
        return self.model.apply(self.model.initial_fast(user), user, item) + decided

    def adapt(self, fast: Fast, support: Support) -> Fast:
        weight = 1.0
        if self.shrinkage:
            count = tf.cast(support.length, self.variable_dtype)
            weight = count / (count + self.shrinkage)

        def loss(output: tf.Tensor) -> tf.Tensor:
            return weight * self._inner_loss(output, support.target, support.length)

        return plain_descend(self, fast, support, loss=loss, steps=self.inner_steps, rates=self.inner_learning_rates(),
                             first_order=self._first_order)

    def descent(self, fast: Fast) -> Descent | None:
        if not is_mean_of_rows(self._inner_loss):
            return None
        return Descent(self, self._inner_loss, (self.inner_learning_rates(),) * self.inner_steps, self.shrinkage)

    def predict(self, fast: Fast, query: Query) -> Prediction:
        return Prediction(output=self.apply(fast, query.user, query.item))

    def inner_learning_rates(self) -> dict[str, tf.Tensor]:
        return {key: tf.exp(tf.convert_to_tensor(v)) for key, v in self._log_rates.items()}

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}
