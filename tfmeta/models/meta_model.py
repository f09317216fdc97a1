"""What every meta-learnable model offers to a learner."""

import abc
from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ConfigError
from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers.dense_record import DenseRecord


class MetaModel(keras.Model, abc.ABC):
    """A Keras model split into slow encoders and a part that runs on fast weights.

    Outputs are in target units: standardised labels for ratings, logits for clicks and weights. A subclass sets
    `SCOPES` and implements `encode_user`, `encode_item`, `initial_fast` and `apply`; its constructor
    creates every variable, so that a new instance can be loaded at once.

    Args:
      feature_spec: of the data.
      scope: which weights adapt, one of `SCOPES`.
      seed: of the initial values.

    Raises:
      ConfigError: if the model has no such scope.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ()

    def __init__(self, feature_spec: FeatureSpec, *, scope: str, seed: int, name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        if scope not in self.SCOPES:
            raise ConfigError(f"'learner.scope' for model '{name}' requires one of {', '.join(self.SCOPES)}, "
                              f"received '{scope}'.")
        require(isinstance(seed, int), "seed", "an integer", seed)
        self.feature_spec, self.scope, self.seed = feature_spec, scope, seed

    @abc.abstractmethod
    def encode_user(self, features: dict[str, tf.Tensor], *, tasks: tf.Tensor) -> tf.Tensor:
        """Encodes transformed user features by slow weights alone: `[B, Du]` float32.

        Args:
          features: name -> `[B, ...]`; may be empty.
          tasks: scalar int32, B.
        """

    @abc.abstractmethod
    def encode_item(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Encodes transformed item features (the item id among them) by slow weights: `[..., Di]` float32."""

    @abc.abstractmethod
    def initial_fast(self, user: tf.Tensor) -> Fast:
        """Returns the unadapted fast weights of B users: name -> `[B, ...]` float32, or a compact form of it.

        Args:
          user: `[B, Du]`, from `encode_user`.
        """

    @property
    def static_shapes(self) -> bool:
        """Whether all shapes in encoding follow from those of the features, so that XLA can compile it."""
        return False

    @property
    def layered(self) -> bool:
        """Whether every fast weight belongs to a `FastDenseStack` that `apply` hands its record to.

        The inner loop then takes gradients by layer outputs instead of by weights, which is cheaper.
        """
        return False

    @abc.abstractmethod
    def apply(self, fast: Fast, user: tf.Tensor, item: tf.Tensor, *,
              record: DenseRecord | None = None) -> tf.Tensor:
        """Scores items under fast weights.

        Args:
          fast: name -> `[B, ...]`, or compact forms.
          user: `[B, Du]`.
          item: `[B, N, Di]`.
          record: for the dense stacks, where the inner loop differentiates this call.

        Returns:
          `[B, N]` float32 in target units.
        """

    @classmethod
    def has_linear_head(cls, scope: str, options: dict) -> bool:
        """Tells whether `linear` works in a scope, for the constructor's other options."""
        return False

    def linear(self, user: tf.Tensor, item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Writes the unadapted model as a linear function of its head: `output = features . weights + offset`.

        This is what closed-form learners solve in. Only models and scopes with such a head have it.

        Args:
          user: `[B, Du]`.
          item: `[B, N, Di]`.

        Returns:
          `features [B, N, P]` and `offset [B, N]`, float32; `linear_prior` has the weights `[B, P]`.

        Raises:
          ConfigError: if the model has no linear head in its scope.
        """
        raise self._no_linear_head()

    def linear_prior(self, user: tf.Tensor) -> tf.Tensor:
        """Returns the unadapted weights `[B, P]` float32 of `linear`'s head."""
        raise self._no_linear_head()

    def linear_output(self, weights: tf.Tensor, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Returns `linear`'s output `[B, N]` under weights `[B, P]`; a model may know a way without the features."""
        features, offset = self.linear(user, item)
        return tf.linalg.matvec(features, weights) + offset

    def linear_sums(self, share: tf.Tensor, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        """Returns sums `[B, C, P]` of `linear`'s features; a model may know a way without the features.

        Args:
          share: of each row in each sum, `[B, C, N]`; items whose share is 0 may be anything finite.
          user, item: as in `linear`.
        """
        return tf.linalg.matmul(share, self.linear(user, item)[0])

    def linear_fast(self, weights: tf.Tensor) -> Fast:
        """Returns the fast weights that say the same as weights `[B, P]` of `linear`'s head; where `has_index`."""
        raise self._no_linear_head()

    @classmethod
    def indexes(cls, scope: str) -> bool:
        """Tells whether models of a scope have an index, see `has_index`."""
        return False

    @property
    def has_index(self) -> bool:
        """Whether an output is a product of a user's and an item's vector, so that an index over items finds the best.

        Then `apply(fast, user, item) = vector . v + b + offset` with `[v, b] = index_items(item)` and `(vector,
        offset) = index_user(fast, user)`.
        """
        return self.indexes(self.scope)

    def index_items(self, item: tf.Tensor) -> tf.Tensor:
        """Returns what an index holds of encoded items `[..., Di]`: their vectors, and last their bias, `[..., W + 1]`.

        No fast weight is in it. Only models with `has_index` have it.
        """
        raise self._no_index()

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what an index is asked for under fast weights: a vector `[B, W]`, and the offset `[B]` of all items.

        Only models with `has_index` have it.
        """
        raise self._no_index()

    def index_constant(self) -> tf.Tensor:
        """Returns the scalar that is part of every user's offset; where `has_index`."""
        raise self._no_index()

    def call(self, inputs: tuple[dict, dict]) -> tf.Tensor:
        """Scores unadapted: (user features `[B, ...]`, item features `[B, N, ...]`) -> `[B, N]`."""
        user_features, item_features = inputs
        tasks = tf.shape(next(iter(item_features.values())))[0]
        user = self.encode_user(user_features, tasks=tasks)
        return self.apply(self.initial_fast(user), user, self.encode_item(item_features))

    @abc.abstractmethod
    def get_config(self) -> dict:
        """Returns the constructor's own hyper-parameters; the feature spec, scope and seed are the recommender's."""

    def _no_linear_head(self) -> ConfigError:
        return ConfigError(f"A closed-form learner requires a model that is linear in what adapts, such as two_tower "
                           f"with scope user_vector and similarity dot, received '{self.name}' with scope "
                           f"'{self.scope}'.")

    def _no_index(self) -> ConfigError:
        return ConfigError(f"An index over items requires a model whose outputs are products of a user's and an item's "
                           f"vector, such as two_tower with similarity dot, received '{self.name}' with scope "
                           f"'{self.scope}'.")
