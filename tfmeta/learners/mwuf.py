"""Meta Warm Up Framework: cold id embeddings scaled by content and shifted by who interacted."""

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.task_embedding import NAME, TaskEmbeddingLearner
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.meta_model import MetaModel

SHIFT = "shift"


@keras.saving.register_keras_serializable("tfmeta")
class MWUF(TaskEmbeddingLearner):
    """Turns the cold id embedding of a task into a warm one by a scaling and a shifting network.

        v_0 = common initial embedding,   v_{t+1} = v_t - a * grad_v L(support; v_t)       cold embedding
        v_warm = v_T * (1 + scale(z)) + shift(mean_j u_j)                                  warm embedding
        outer loss = L(query; v_warm)

    z is the encoded content of the task and u_j are the representations of those in its support: for data prepared
    with `task_side: item` an item and the users that interacted with it first, as in the paper. The mean makes the
    shift stable where single labels are noisy; labels move v alone. An empty support has no shift. Both networks
    have one hidden layer of relu units.

    Source: Zhu, Xie, Zhuang, Ge, Sun, Zhang, Lin and Cao, "Learning to Warm Up Cold Item Embeddings for Cold-start
    Recommendation with Meta Scaling and Shifting Networks", SIGIR 2021, section "Meta Warm Up Framework".
    Deviations: the paper trains a base model with ids first, freezes it, lets an optimizer train the cold embeddings on
    the cold loss and the two networks on the warm loss; here all is trained together by the warm loss, with the cold
    embedding's steps inside (first order unless told otherwise, which is the paper's independence of the two). The
    common initial embedding is learned where the paper takes the mean of trained ids, of which no table is kept. The
    networks' inputs are held constant (`stop_gradient`), as frozen ones would be. The scaling network says by how much
    the scale differs from 1. The embedding is added to the encoded content.

    Args:
      model: any model.
      units: hidden units of both networks.
      inner_steps, inner_learning_rate, learn_rate, first_order, inner_loss, outer_loss: of the cold embedding's
        steps, see `TaskEmbeddingLearner`; with 0 steps the shift alone adapts.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    def __init__(self, model: MetaModel, *, units: int = 16, inner_steps: int = 1, inner_learning_rate: float = 0.1,
                 learn_rate: bool = True, first_order: bool = True, inner_loss: str | None = None,
                 outer_loss: str | None = None, name: str = "mwuf", **kwargs):
        super().__init__(model, name=name, inner_steps=inner_steps, inner_learning_rate=inner_learning_rate,
                         learn_rate=learn_rate, first_order=first_order, inner_loss=inner_loss,
                         outer_loss=outer_loss, **kwargs)
        require(isinstance(units, int) and units >= 1, "learner.units", "at least 1", units)
        self._config |= {"units": units}
        self.common = self.add_weight(name="common_embedding", shape=(self.task_width,), initializer="zeros")
        self.scaling = FastDenseStack((units, self.task_width), input_width=self.task_width, seed=model.seed,
                                      name="scaling")
        self.shifting = FastDenseStack((units, self.task_width), input_width=self.item_width, seed=model.seed,
                                       name="shifting")
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        common = tf.convert_to_tensor(self.common)
        return {NAME: tf.zeros_like(user) + common, SHIFT: tf.zeros_like(user)}

    def adapt(self, fast: Fast, support: Support) -> Fast:
        count = tf.cast(support.length, support.item.dtype)[:, None]
        # Padding is zero already.
        mean = tf.math.divide_no_nan(tf.reduce_sum(support.item, axis=1), count)
        shift = tf.cast(self.shifting(tf.stop_gradient(mean)), self.variable_dtype)
        return {NAME: self.descend(fast[NAME], support),
                SHIFT: tf.where(support.length[:, None] > 0, shift, fast[SHIFT])}

    def predict(self, fast: Fast, query: Query) -> Prediction:
        return Prediction(output=self._view.apply(self._warm(fast, query.user), query.user, query.item))

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._view.index_user(self._warm(fast, user), user)

    def _warm(self, fast: Fast, user: tf.Tensor) -> Fast:
        """Returns v_warm."""
        scale = 1 + tf.cast(self.scaling(tf.stop_gradient(user)), self.variable_dtype)
        return {NAME: fast[NAME] * scale + fast[SHIFT]}
