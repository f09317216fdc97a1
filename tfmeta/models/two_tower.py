"""Two-tower model: a user vector and an item vector meet in a product."""

from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ConfigError
from tfmeta.models.fast_weights import Fast
from tfmeta.models.item_id_embedding import ItemIdEmbedding
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.layers.feature_encoder import FeatureEncoder
from tfmeta.models.layers.low_rank_deltas import LowRankDeltas
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class TwoTower(MetaModel):
    """Scores `u . v_i + c_u + c_i + c` where `[u, c_u]` and `[v_i, c_i]` come from a tower each.

    The item tower reads content; an item-id embedding of the same width is added to its output for items of the
    training vocabulary, so a cold item is represented by content alone. With `similarity="cosine"` u and v are
    normalised and the product is multiplied by a learned temperature.

    Scopes:
      `user_vector`: only `[u, c_u]` adapts, so an index over item vectors stays valid.
      `context`: a vector that the user tower reads beside the user's features, zero before adaptation; only `[u, c_u]`
        changes by it, so an index over item vectors stays valid here too.
      `low_rank`: changes of both towers' layers of few numbers, see `LowRankDeltas`.
      `body`: the dense kernels of both towers but their last ones.
      `all`: the dense kernels of both towers (embedding tables never adapt).

    Args:
      feature_spec: of the data.
      scope: one of those above.
      seed: of the initial values.
      embedding_dim: width of each feature's embedding.
      vector_dim: D, width of u and v.
      user_units, item_units: hidden units of the towers.
      similarity: `dot` or `cosine`.
      use_item_id: add the item-id embedding.
      rank: of the kernels' changes in scope `low_rank`.
      context_dim: width of the vector in scope `context`.

    Raises:
      ConfigError: if a value is out of range, or nothing precedes the towers' last layers in scope `body`.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("user_vector", "context", "low_rank", "body", "all")

    def __init__(self, feature_spec: FeatureSpec, *, scope: str = "user_vector", seed: int = 0,
                 embedding_dim: int = 16, vector_dim: int = 32, user_units: tuple[int, ...] = (64,),
                 item_units: tuple[int, ...] = (64,), similarity: str = "dot", use_item_id: bool = True,
                 rank: int = 4, context_dim: int = 8, **kwargs):
        super().__init__(feature_spec, scope=scope, seed=seed, name="two_tower", **kwargs)
        require(similarity in ("dot", "cosine"), "model.similarity", "'dot' or 'cosine'", similarity)
        require(vector_dim >= 1, "model.vector_dim", "at least 1", vector_dim)
        require(embedding_dim >= 1, "model.embedding_dim", "at least 1", embedding_dim)
        require(rank >= 1, "model.rank", "at least 1", rank)
        require(context_dim >= 1, "model.context_dim", "at least 1", context_dim)
        if scope == "body" and not (user_units or item_units):
            raise ConfigError("'learner.scope' body requires a model with hidden layers, received 'model.user_units' "
                              "and 'model.item_units' without any.")
        self._config = {"embedding_dim": embedding_dim, "vector_dim": vector_dim, "user_units": list(user_units),
                        "item_units": list(item_units), "similarity": similarity, "use_item_id": use_item_id,
                        "rank": rank, "context_dim": context_dim}
        self.context_dim = context_dim if scope == "context" else 0
        self.vector_dim, self.similarity = vector_dim, similarity
        self.user_encoder = FeatureEncoder(feature_spec.user_features, embedding_dim=embedding_dim, seed=seed,
                                           prefix="user")
        self.item_encoder = FeatureEncoder(feature_spec.item_features, embedding_dim=embedding_dim, seed=seed,
                                           prefix="item")
        self.user_tower = FastDenseStack((*user_units, vector_dim + 1), seed=seed, name="user_tower",
                                         input_width=self.context_dim + self.user_encoder.width)
        self.item_tower = FastDenseStack((*item_units, vector_dim + 1), input_width=self.item_encoder.width,
                                         seed=seed, name="item_tower")
        towers = (self.user_tower, self.item_tower) if scope == "low_rank" else ()
        self.deltas = [LowRankDeltas(tower, rank=rank, seed=seed) for tower in towers]
        self.item_ids = (ItemIdEmbedding(feature_spec.item_id, width=vector_dim + 1, seed=seed)
                         if use_item_id else None)
        self.offset = self.add_weight(name="offset", shape=(), initializer="zeros")
        self.log_temperature = (self.add_weight(name="log_temperature", shape=(), initializer="zeros")
                                if similarity == "cosine" else None)
        self.built = True

    def encode_user(self, features, *, tasks):
        encoded = self.user_encoder(features, lead=tf.reshape(tasks, [1]))
        if self.scope == "user_vector":
            encoded = self.user_tower(encoded)
        return tf.cast(encoded, self.variable_dtype)

    def encode_item(self, features):
        ids = features[self.feature_spec.item_id.name]
        content = self.item_encoder({k: v for k, v in features.items() if k != self.feature_spec.item_id.name},
                                    lead=tf.shape(ids))
        by_id = [self.item_ids(ids)] if self.item_ids is not None else []
        if self.has_index:
            vector = self.item_tower(content)
            return tf.cast(vector + by_id[0] if by_id else vector, self.variable_dtype)
        return tf.cast(tf.concat([content, *by_id], axis=-1), self.variable_dtype)

    def initial_fast(self, user):
        if self.scope == "user_vector":
            return {"user_vector": user[:, :-1], "user_bias": user[:, -1:]}
        if self.scope == "context":
            return {"context": tf.zeros([tf.shape(user)[0], self.context_dim], self.variable_dtype)}
        if self.scope == "low_rank":
            return {k: v for deltas in self.deltas for k, v in deltas.initial_fast(tf.shape(user)[0]).items()}
        layers = slice(None, -1) if self.scope == "body" else slice(None)
        return {**self.user_tower.initial_fast(layers), **self.item_tower.initial_fast(layers)}

    @property
    def static_shapes(self):
        return self.item_ids is None and not (self.user_encoder.lists or self.item_encoder.lists)

    @property
    def layered(self):
        return self.scope in ("all", "body")

    def apply(self, fast: Fast, user, item, *, record=None):
        user_vector, user_bias = self._user_vector(fast, user, record)
        if not self.has_index:
            content, by_id = item[..., :self.item_encoder.width], item[..., self.item_encoder.width:]
            item = tf.cast(self._item_out(fast, content, record), self.variable_dtype)
            if self.item_ids is not None:
                item = item + by_id
        item_vector, item_bias = item[..., :-1], item[..., -1]
        if self.similarity == "cosine":
            user_vector = _normalise(user_vector) * tf.exp(tf.convert_to_tensor(self.log_temperature))
            item_vector = _normalise(item_vector)
        product = tf.linalg.matvec(tf.cast(item_vector, self.compute_dtype), tf.cast(user_vector, self.compute_dtype))
        return tf.cast(product, self.variable_dtype) + user_bias + item_bias + tf.convert_to_tensor(self.offset)

    def _user_vector(self, fast: Fast, user: tf.Tensor, record) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns u `[B, D]` and c_u `[B, 1]`."""
        if self.scope == "user_vector":
            return fast["user_vector"], fast["user_bias"]
        user_out = tf.cast(self._user_out(fast, user[:, None, :], record), self.variable_dtype)[:, 0, :]
        return user_out[:, :-1], user_out[:, -1:]

    def _user_out(self, fast: Fast, user: tf.Tensor, record) -> tf.Tensor:
        if self.scope == "low_rank":
            return self.deltas[0]((user,), fast=fast)
        if self.scope == "context":
            return self.user_tower((fast["context"][:, None, :], user), fast={}, constant=False)
        return self.user_tower(user, fast=fast, record=record)

    def _item_out(self, fast: Fast, content: tf.Tensor, record) -> tf.Tensor:
        if self.scope == "low_rank":
            return self.deltas[1]((content,), fast=fast)
        return self.item_tower(content, fast=fast, record=record)

    @classmethod
    def has_linear_head(cls, scope, options):
        return scope == "user_vector" and options.get("similarity", "dot") == "dot"

    def linear(self, user, item):
        if not self.has_linear_head(self.scope, self._config):
            return super().linear(user, item)
        # One in the place of the item's bias.
        features = _with_last_column(item, tf.ones([*tf.unstack(tf.shape(item)[:2]), 1], item.dtype))
        return features, item[..., -1] + tf.convert_to_tensor(self.offset)

    def linear_sums(self, share, user, item):
        # The sum of ones, instead of a copy of all items with ones in the place of their biases.
        return _with_last_column(tf.linalg.matmul(share, item), tf.reduce_sum(share, axis=2)[..., None])

    def linear_prior(self, user):
        return user

    def linear_output(self, weights, user, item):
        # [u, 1] . [v_i, c_i] + c_u: the items as they lie, instead of a copy with ones in place of c_i.
        vector = tf.concat([weights[:, :-1], tf.ones_like(weights[:, :1])], axis=-1)
        return tf.linalg.matvec(item, vector) + (weights[:, -1:] + tf.convert_to_tensor(self.offset))

    def linear_fast(self, weights):
        return {"user_vector": weights[:, :-1], "user_bias": weights[:, -1:]}

    @classmethod
    def indexes(cls, scope):
        # Those that change no item's vector, which is then the item's representation.
        return scope in ("user_vector", "context")

    def index_items(self, item):
        if self.similarity == "dot":
            return item
        return tf.concat([_normalise(item[..., :-1]), item[..., -1:]], axis=-1)

    def index_user(self, fast, user):
        vector, bias = self._user_vector(fast, user, None)
        if self.similarity == "cosine":
            vector = _normalise(vector) * tf.exp(tf.convert_to_tensor(self.log_temperature))
        return vector, bias[:, 0] + self.index_constant()

    def index_constant(self):
        return tf.convert_to_tensor(self.offset)

    def get_config(self):
        return dict(self._config)


def _normalise(vector: tf.Tensor) -> tf.Tensor:
    # The floor keeps the gradient of a zero vector (a content-free item) finite.
    return vector * tf.math.rsqrt(tf.reduce_sum(tf.square(vector), axis=-1, keepdims=True) + 1e-12)


def _with_last_column(values: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
    """Returns values `[B, N, D]` with another last column, `[B, N, 1]`."""
    return tf.raw_ops.TensorStridedSliceUpdate(
        input=values, begin=[0, 0, values.shape[-1] - 1], end=[0, 0, 0], strides=[1, 1, 1], value=column,
        begin_mask=0b011, end_mask=0b111)
