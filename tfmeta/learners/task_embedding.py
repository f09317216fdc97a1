"""An id embedding of the task's own, as a fast weight of any model."""

import math

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.errors import ConfigError
from tfmeta.learners.inner_loop import plain_descend
from tfmeta.learners.learner import Learner
from tfmeta.learners.losses import loss_for
from tfmeta.learners.task_tensors import Support
from tfmeta.models.encoded_widths import encoded_widths
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel

NAME = "id_embedding"


class TaskEmbedding:
    """A model seen through an id embedding: scores as if the task were encoded as `user + fast["id_embedding"]`.

    That is how `TwoTower` adds an item-id embedding to an item's content, on the side of the task. For a model whose
    first layer is dense the sum says what concatenation with tied kernels would: `(x + phi) K = x K + phi K`.
    Whatever the model's scope, its own fast weights keep their initial values.

    Args:
      model: that scores.
    """

    layered = False

    def __init__(self, model: MetaModel):
        self._model = model

    def apply(self, fast: Fast, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Scores items `[B, N, Di]` for tasks `[B, Du]`: `[B, N]` float32 in target units."""
        user = user + fast[NAME]
        return self._model.apply(self._model.initial_fast(user), user, item)

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What `MetaModel.index_user` returns for the tasks with their embeddings."""
        user = user + fast[NAME]
        return self._model.index_user(self._model.initial_fast(user), user)


class TaskEmbeddingLearner(Learner):
    """Base of the learners whose fast weight is an id embedding, moved by gradient steps on the support loss.

    Args:
      model: any model whose tasks have a representation.
      inner_steps: number of gradient steps; 0 leaves the embedding as it starts.
      inner_learning_rate: rate of the steps, the initial value where it is learned.
      learn_rate: learn the rate, one number, kept positive through its logarithm.
      first_order: treat the inner gradients as constants in the outer loop.
      inner_loss, outer_loss: names of losses; None takes the default of the label's unit.

    Raises:
      ConfigError: if a value is out of range, a loss does not fit the label's unit, or the model encodes tasks
        to nothing.
    """

    def __init__(self, model: MetaModel, *, name: str, inner_steps: int, inner_learning_rate: float,
                 learn_rate: bool, first_order: bool, inner_loss: str | None, outer_loss: str | None, **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        require(isinstance(inner_steps, int) and inner_steps >= 0, "learner.inner_steps", "0 or more", inner_steps)
        require(inner_learning_rate > 0, "learner.inner_learning_rate", "a positive number", inner_learning_rate)
        self.task_width, self.item_width = encoded_widths(model)
        if not self.task_width:
            raise ConfigError(f"Learner '{name}' requires a model that encodes tasks to at least one number, received "
                              f"'{model.name}' on data without {model.feature_spec.task_side} features. Add "
                              "features, or use model two_tower with scope user_vector.")
        self._config = {"inner_steps": inner_steps, "inner_learning_rate": inner_learning_rate,
                        "learn_rate": learn_rate, "first_order": first_order, "inner_loss": inner_loss}
        self._inner_loss = loss_for(model.feature_spec.label, part="inner", name=inner_loss)
        self._view = TaskEmbedding(model)
        self._log_rate = self.add_weight(
            name="log_inner_rate", shape=(), initializer=keras.initializers.Constant(math.log(inner_learning_rate)),
        ) if learn_rate else None

    def descend(self, embedding: tf.Tensor, support: Support) -> tf.Tensor:
        """Moves id embeddings `[B, Du]` by the gradient steps on their support losses."""
        if not self._config["inner_steps"]:
            return embedding
        return plain_descend(
            self._view, {NAME: embedding}, support, steps=self._config["inner_steps"], rates=self._rates(),
            loss=lambda output: self._inner_loss(output, support.target, support.length),
            first_order=self._config["first_order"])[NAME]

    def _rates(self) -> dict[str, tf.Tensor]:
        if self._log_rate is None:
            return {NAME: tf.constant(self._config["inner_learning_rate"], self.variable_dtype)}
        return self.inner_learning_rates()

    @property
    def has_index(self) -> bool:
        return self.model.has_index

    def inner_learning_rates(self) -> dict[str, tf.Tensor]:
        return {} if self._log_rate is None else {NAME: tf.exp(tf.convert_to_tensor(self._log_rate))}

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}
