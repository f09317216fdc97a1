"""The interface of every learner."""

import abc
from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.errors import ConfigError
from tfmeta.learners.descent import Descent
from tfmeta.learners.linear_system import LinearSystem
from tfmeta.learners.losses import BY_UNIT, SOFTMAX, loss_for, softmax
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.meta_model import MetaModel


class Learner(keras.layers.Layer, abc.ABC):
    """Adapts a model to tasks; owns the model and its own slow parameters (rates, regularisation, memory).

    All methods are pure functions of tensors: nothing is assigned, and nothing is random. The same `adapt` runs in
    training, in evaluation and in the exported signature. An empty support leaves the fast weights as they are.

    A learner that is defined by what adapts names those scopes in `SCOPES`, the one that it takes by default first;
    without any it works in every scope.

    Attributes:
      SCOPES: scopes it accepts, the default one first; empty for all of the model's.
      has_median: whether predictions have a median of their own.
      over_catalogue: whether the outer loss compares with all items, so that `Query.catalogue` is needed.

    Args:
      model: the model whose fast weights adapt.
      outer_loss: name of the loss on the query set; None takes the default of the label's unit. `softmax`, for implicit
        feedback, is a softmax over all items, for learners with `has_index`.

    Raises:
      ConfigError: if the loss is unknown or does not fit the unit, or the model's scope is none of `SCOPES`.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ()
    has_median: ClassVar[bool] = False

    def __init__(self, model: MetaModel, *, name: str, outer_loss: str | None = None, **kwargs):
        super().__init__(name=name, **kwargs)
        if self.SCOPES and model.scope not in self.SCOPES:
            raise ConfigError(f"'learner.scope' for learner '{name}' requires one of {', '.join(self.SCOPES)}, "
                              f"received '{model.scope}'.")
        self.model = model
        self._outer_loss_name = outer_loss
        self._outer_loss = loss_for(model.feature_spec.label, part="outer", name=outer_loss)
        self.over_catalogue = outer_loss == SOFTMAX
        # Outputs that an inner loss holds near 0 and 1 are no logits: their scale is learned, by its logarithm.
        self._log_logit_scale = (self.add_weight(name="log_logit_scale", shape=(), initializer="zeros")
                                 if self.over_catalogue else None)

    def init(self, user: tf.Tensor) -> Fast:
        """Returns the unadapted fast weights of B encoded users `[B, Du]`: name -> value, `[B, ...]` or compact."""
        return self.model.initial_fast(user)

    @abc.abstractmethod
    def adapt(self, fast: Fast, support: Support) -> Fast:
        """Returns the fast weights after the support set has been seen."""

    def predict(self, fast: Fast, query: Query) -> Prediction:
        """Scores candidates under fast weights, in target units."""
        return Prediction(output=self.model.apply(fast, query.user, query.item))

    @property
    def has_index(self) -> bool:
        """Whether `predict` ranks items as the product of `index_user` and the model's `index_items` does."""
        return self.model.has_index and type(self).predict is Learner.predict

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the vector `[B, W]` and offset `[B]` of `MetaModel.index_user` under this learner's fast weights.

        The output before any transformation of the learner's own is `vector . v + b + offset`; only where `has_index`.
        """
        return self.model.index_user(fast, user)

    @property
    def score_unit(self) -> str:
        """What a score is: a `rating`, the `probability` of a click, or a `preference`, which is unbounded and orders.

        A loss that compares items (`pairwise`) leaves the level of the outputs open, so that what a sigmoid makes of
        them is no probability, and may round to 1 for every item.
        """
        unit = self.model.feature_spec.label.unit
        if unit == "rating":
            return "rating"
        calibrated = (self._outer_loss_name or BY_UNIT[unit][1]) == "binary_cross_entropy"
        return "probability" if unit == "click" and calibrated else "preference"

    def outer_loss(self, prediction: Prediction, *, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each task `[B]` on its query set, `target [B, Q]` in target units."""
        return self._outer_loss(prediction.output, target, length)

    def query_loss(self, fast: Fast, query: Query, *, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each task `[B]` on its query set under given fast weights.

        That is `outer_loss` of `predict`, or where `over_catalogue` the softmax of exp(s) times the index's products,
        s learned, over all items that the support does not hold.

        Raises:
          ValueError: without `query.catalogue` where `over_catalogue`.
        """
        if not self.over_catalogue:
            return self.outer_loss(self.predict(fast, query), target=target, length=length)
        if query.catalogue is None:
            raise ValueError("The loss 'softmax' requires all items, received a query without a catalogue.")
        # The offset is every item's and cancels out.
        vector, _ = self.index_user(fast, query.user)
        scale = tf.exp(tf.convert_to_tensor(self._log_logit_scale))
        vector *= scale
        item = self.model.index_items(query.item)
        output = tf.linalg.matvec(item[..., :-1], vector) + scale * item[..., -1]
        every, seen = query.catalogue
        logits = tf.linalg.matmul(vector, every[:, :-1], transpose_b=True) + scale * every[:, -1]
        logits = tf.where(_marked(seen, like=logits), logits.dtype.min, logits)
        return softmax(output, tf.reduce_logsumexp(logits, axis=1), target, length)

    def task_loss(self, support: Support, query: Query, *, target: tf.Tensor, length: tf.Tensor,
                  progress: tf.Tensor) -> tf.Tensor:
        """Returns what the outer loop minimises, one number per task `[B]`.

        That is the query loss after adaptation; a learner whose outer objective is another one (losses of
        intermediate steps, a surrogate gradient, a bound) overrides this method alone.

        Args:
          support: encoded support sets.
          query: encoded query sets.
          target: `[B, Q]` float32, the query's labels in target units.
          length: `[B]` int32, real rows of the query.
          progress: scalar float32, share of the planned outer steps that are done, 0 to 1, for annealing.
        """
        return self.query_loss(self.adapt(self.init(support.user), support), query, target=target, length=length)

    def descent(self, fast: Fast) -> Descent | None:
        """Returns the steps that `adapt` takes from given fast weights, where it takes gradient steps and nothing else.

        None for every other learner, and where the inner loss is no mean over the support's rows.
        """
        return None

    def linear_system(self, fast: Fast, support: Support) -> LinearSystem | None:
        """Returns the least squares problem that `adapt` solves in the head of `MetaModel.linear`; None for others.

        The learner's `from_output` must then give its predictions.
        """
        return None

    def from_output(self, output: tf.Tensor) -> tf.Tensor:
        """Returns the predictions `[B, N]`, in target units, of outputs of the model's head; with `linear_system`."""
        return output

    def inner_learning_rates(self) -> dict[str, tf.Tensor]:
        """Returns the inner learning rates by fast weight, for logging; empty where there are none."""
        return {}

    def get_config(self) -> dict:
        """Returns the constructor's own hyper-parameters, JSON-able; the model is the recommender's."""
        return {"outer_loss": self._outer_loss_name}


def _marked(places: tf.Tensor, *, like: tf.Tensor) -> tf.Tensor:
    """Returns whether a place is in its task's list `[B, S]`, bool in the shape `[B, I]` of `like`."""
    task = tf.broadcast_to(tf.range(tf.shape(places)[0])[:, None], tf.shape(places))
    counts = tf.scatter_nd(tf.stack([task, tf.maximum(places, 0)], axis=-1), tf.cast(places >= 0, tf.int32),
                           tf.shape(like))
    return counts > 0
