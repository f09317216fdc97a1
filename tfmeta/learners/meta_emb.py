"""Meta-Embedding: a generator of initial id embeddings."""

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.descent import Descent, is_mean_of_rows
from tfmeta.learners.task_embedding import NAME, TaskEmbeddingLearner
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers import seeds
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class MetaEmb(TaskEmbeddingLearner):
    """Generates a new id's embedding from content, so that it is good at once and better after one gradient step.

        phi_0 = gamma * tanh(z W)                                      z: encoded content of the task, W: the generator
        l_a = L(support; phi_0),   phi_1 = phi_0 - a * grad_phi l_a,   l_b = L(query; phi_1)
        outer loss = alpha * l_a + (1 - alpha) * l_b

    A task is an item where the data were prepared with `task_side: item`, as in the paper: the support is the item's
    first interactions, the query other users'. It may be a user just as well.

    Source: Pan, Li, Ao, Tang and He, "Warm Up Cold-start Advertisements: Improving CTR Predictions via Learning to
    Learn ID Embeddings", SIGIR 2019, section 3, "Learning to Learn ID Embeddings for New Ads" (algorithm 1); alpha
    and gamma as in the authors' code. Deviations: the paper trains a base model with ids first, freezes it and trains
    W alone; here W and the base model are trained together, and only the generator's input is held constant
    (`stop_gradient`). The embedding is added to the encoded content, where the paper's models have a field of
    their own for it. No table of trained ids is kept: a warm item's embedding is the generated one after its
    interactions. The rate a is learned unless told otherwise; more than one step is allowed. The support of implicit
    feedback holds positives only, on which every loss is least for a model that says yes to all, so l_a is then
    taken on the query.

    Args:
      model: any model.
      alpha: weight of the cold loss, in [0, 1].
      gamma: bound of the generated embedding's elements.
      inner_steps, inner_learning_rate, learn_rate, first_order, inner_loss, outer_loss: of the steps, see
        `TaskEmbeddingLearner`.

    Raises:
      ConfigError: if a value is out of range or a loss does not fit the label's unit.
    """

    def __init__(self, model: MetaModel, *, alpha: float = 0.1, gamma: float = 0.2, inner_steps: int = 1,
                 inner_learning_rate: float = 0.1, learn_rate: bool = True, first_order: bool = False,
                 inner_loss: str | None = None, outer_loss: str | None = None, name: str = "meta_emb", **kwargs):
        super().__init__(model, name=name, inner_steps=inner_steps, inner_learning_rate=inner_learning_rate,
                         learn_rate=learn_rate, first_order=first_order, inner_loss=inner_loss,
                         outer_loss=outer_loss, **kwargs)
        require(0 <= alpha <= 1, "learner.alpha", "a weight from 0 to 1", alpha)
        require(gamma > 0, "learner.gamma", "a positive number", gamma)
        self._config |= {"alpha": alpha, "gamma": gamma}
        self._positives_only = model.feature_spec.label.unit != "rating"
        self.generator = self.add_weight(name="generator", shape=(self.task_width, self.task_width),
                                         initializer=seeds.glorot(model.seed, "meta_emb_generator"))
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        content = tf.linalg.matmul(tf.stop_gradient(user), tf.convert_to_tensor(self.generator))
        return {NAME: self._config["gamma"] * tf.tanh(content)}

    def adapt(self, fast: Fast, support: Support) -> Fast:
        return {NAME: self.descend(fast[NAME], support)}

    def predict(self, fast: Fast, query: Query) -> Prediction:
        return Prediction(output=self._view.apply(fast, query.user, query.item))

    def descent(self, fast: Fast) -> Descent | None:
        if not is_mean_of_rows(self._inner_loss):
            return None
        return Descent(self._view, self._inner_loss, (self._rates(),) * self._config["inner_steps"])

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._view.index_user(fast, user)

    def task_loss(self, support, query, *, target, length, progress):
        fast = self.init(support.user)
        if self._positives_only:
            cold = self.query_loss(fast, query, target=target, length=length)
        else:
            cold = self.query_loss(fast, Query(user=support.user, item=support.item), target=support.target,
                                   length=support.length)
        warm = self.query_loss(self.adapt(fast, support), query, target=target, length=length)
        return self._config["alpha"] * cold + (1 - self._config["alpha"]) * warm
