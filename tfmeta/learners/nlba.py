"""Non-linear bias adaptation."""

import keras
import tensorflow as tf

from tfmeta.errors import ConfigError
from tfmeta.learners.class_means import ClassMeans
from tfmeta.learners.encoded_widths import encoded_widths, one_user
from tfmeta.learners.learner import Learner
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast, Shared
from tfmeta.models.layers import seeds
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class NLBA(Learner):
    """All users share a network's kernels; the biases of its units are a linear function of the user's history.

        R_c = mean of F(v_j) over the support's items of class c
        h   = relu(W F(v) + b_1 + V_0 R_0 + V_1 R_1),     output = w . h + b_2 + v_0 . R_0 + v_1 . R_1

    Source: Vartak et al., "A Meta-Learning Perspective on Cold-Start Recommendations for Items", NeurIPS 2017, section
    3.2. The network is the model's own: every dense layer that may adapt in its scope gets biases of its own for each
    user, and its unadapted biases are b_l.

    Ratings need classes, as in `LWA`: by default the label's threshold makes two, `boundaries` makes more.

    Deviations: F is the encoded item, normalised; R_c is damped and has two entries more, n_c / (n_c + tau) and the
    class's share of the support, so that the user's mean label and the support's size count; the network also sees the
    user's features and may have several layers.

    Args:
      model: with dense layers that adapt: embedding with scope head or all, two_tower with scope all.
      boundaries: labels that separate classes, in the label's own unit; None takes the threshold.
      shrinkage: initial tau, in interactions; 0 for plain means.
      outer_loss: name of a loss; None takes the default of the label's unit.

    Raises:
      ConfigError: if no dense layer adapts in the model's scope, a value is out of range, or the loss does not fit the
        label's unit.
    """

    def __init__(self, model: MetaModel, *, boundaries: tuple[float, ...] | None = None, shrinkage: float = 2.0,
                 outer_loss: str | None = None, name: str = "nlba", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        self._config = {"boundaries": None if boundaries is None else list(boundaries), "shrinkage": shrinkage}
        start = model.initial_fast(one_user(model))
        biases = {key: value.value.shape[-1] for key, value in start.items()
                  if isinstance(value, Shared) and key.endswith("_bias")}
        if not biases:
            raise ConfigError(f"Learner 'nlba' requires a model whose dense layers adapt, such as embedding with scope "
                              f"head or two_tower with scope all, received '{model.name}' with scope "
                              f"'{model.scope}'.")
        self.means = ClassMeans(model.feature_spec.label, boundaries=boundaries, shrinkage=shrinkage)
        _, item = encoded_widths(model)
        self.item_norm = None
        if item:
            self.item_norm = keras.layers.LayerNormalization(name=f"{name}_item_norm")
            self.item_norm.build((None, None, item))
        self.maps = {key: self.add_weight(name=f"history_to_{key}", shape=(self.means.classes, item + 2, width),
                                          initializer=seeds.normal(model.seed, f"{name}/{key}", 0.01))
                     for key, width in biases.items()}
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        start = self.model.initial_fast(user)
        tasks = tf.shape(user)[0]
        return {key: tf.tile(start[key].value[None], [tasks, 1, 1]) for key in self.maps}

    def adapt(self, fast: Fast, support: Support) -> Fast:
        history = self.history(support)
        return {key: fast[key] + tf.einsum("bcd,cdw->bw", history, tf.convert_to_tensor(weight))[:, None, :]
                for key, weight in self.maps.items()}

    def history(self, support: Support) -> tf.Tensor:
        """Returns (R_c, n_c / (n_c + tau), share) of each class, `[B, classes, Di + 2]`."""
        item = support.item
        if self.item_norm is not None:
            item = tf.cast(self.item_norm(item), self.variable_dtype)
        counted = tf.concat([item, tf.ones_like(support.target)[..., None]], axis=-1)
        means, shares = self.means.summarise(lambda share: tf.linalg.matmul(share, counted), support)
        return tf.concat([means, shares[..., None]], axis=-1)

    def predict(self, fast: Fast, query: Query) -> Prediction:
        merged = {**self.model.initial_fast(query.user), **fast}
        return Prediction(output=self.model.apply(merged, query.user, query.item))

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}
