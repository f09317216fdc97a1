"""Two-tower model: a user vector and an item vector meet in a product."""

from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.models.fast_weights import Fast
from tfmeta.models.item_id_embedding import ItemIdEmbedding
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.layers.feature_encoder import FeatureEncoder
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class TwoTower(MetaModel):
    """Scores `u . v_i + c_u + c_i + c` where `[u, c_u]` and `[v_i, c_i]` come from a tower each.

    The item tower reads content; an item-id embedding of the same width is added to its output for items of the
    training vocabulary, so a cold item is represented by content alone. With `similarity="cosine"` u and v are
    normalised and the product is multiplied by a learned temperature.

    Scopes:
      `user_vector`: only `[u, c_u]` adapts, so an index over item vectors stays valid.
      `all`: the dense kernels of both towers adapt (embedding tables never do).

    Args:
      feature_spec: of the data.
      scope: `user_vector` or `all`.
      seed: of the initial values.
      embedding_dim: width of each feature's embedding.
      vector_dim: D, width of u and v.
      user_units, item_units: hidden units of the towers.
      similarity: `dot` or `cosine`.
      use_item_id: add the item-id embedding.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("user_vector", "all")

    def __init__(self, feature_spec: FeatureSpec, *, scope: str = "user_vector", seed: int = 0,
                 embedding_dim: int = 16, vector_dim: int = 32, user_units: tuple[int, ...] = (64,),
                 item_units: tuple[int, ...] = (64,), similarity: str = "dot", use_item_id: bool = True, **kwargs):
        super().__init__(feature_spec, scope=scope, seed=seed, name="two_tower", **kwargs)
        require(similarity in ("dot", "cosine"), "model.similarity", "'dot' or 'cosine'", similarity)
        require(vector_dim >= 1, "model.vector_dim", "at least 1", vector_dim)
        require(embedding_dim >= 1, "model.embedding_dim", "at least 1", embedding_dim)
        self._config = {"embedding_dim": embedding_dim, "vector_dim": vector_dim, "user_units": list(user_units),
                        "item_units": list(item_units), "similarity": similarity, "use_item_id": use_item_id}
        self.vector_dim, self.similarity = vector_dim, similarity
        self.user_encoder = FeatureEncoder(feature_spec.user_features, embedding_dim=embedding_dim, seed=seed,
                                           prefix="user")
        self.item_encoder = FeatureEncoder(feature_spec.item_features, embedding_dim=embedding_dim, seed=seed,
                                           prefix="item")
        self.user_tower = FastDenseStack((*user_units, vector_dim + 1), input_width=self.user_encoder.width,
                                         seed=seed, name="user_tower")
        self.item_tower = FastDenseStack((*item_units, vector_dim + 1), input_width=self.item_encoder.width,
                                         seed=seed, name="item_tower")
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
        if self.scope == "user_vector":
            vector = self.item_tower(content)
            return tf.cast(vector + by_id[0] if by_id else vector, self.variable_dtype)
        return tf.cast(tf.concat([content, *by_id], axis=-1), self.variable_dtype)

    def initial_fast(self, user):
        if self.scope == "user_vector":
            return {"user_vector": user[:, :-1], "user_bias": user[:, -1:]}
        return {**self.user_tower.initial_fast(), **self.item_tower.initial_fast()}

    @property
    def layered(self):
        return self.scope == "all"

    def apply(self, fast: Fast, user, item, *, record=None):
        if self.scope == "user_vector":
            user_vector, user_bias = fast["user_vector"], fast["user_bias"]
            item_vector, item_bias = item[..., :-1], item[..., -1]
        else:
            user_out = self.user_tower(user[:, None, :], fast=fast, record=record)
            user_out = tf.cast(user_out, self.variable_dtype)[:, 0, :]
            user_vector, user_bias = user_out[:, :-1], user_out[:, -1:]
            content = item[..., :self.item_encoder.width]
            item_out = tf.cast(self.item_tower(content, fast=fast, record=record), self.variable_dtype)
            if self.item_ids is not None:
                item_out = item_out + item[..., self.item_encoder.width:]
            item_vector, item_bias = item_out[..., :-1], item_out[..., -1]
        if self.similarity == "cosine":
            user_vector = _normalise(user_vector) * tf.exp(tf.convert_to_tensor(self.log_temperature))
            item_vector = _normalise(item_vector)
        product = tf.linalg.matvec(tf.cast(item_vector, self.compute_dtype), tf.cast(user_vector, self.compute_dtype))
        return tf.cast(product, self.variable_dtype) + user_bias + item_bias + tf.convert_to_tensor(self.offset)

    def linear(self, user, item):
        if self.scope != "user_vector" or self.similarity != "dot":
            return super().linear(user, item)
        features = tf.concat([item[..., :-1], tf.ones_like(item[..., :1])], axis=-1)
        return features, item[..., -1] + tf.convert_to_tensor(self.offset)

    def linear_prior(self, user):
        return user

    def get_config(self):
        return dict(self._config)


def _normalise(vector: tf.Tensor) -> tf.Tensor:
    # The floor keeps the gradient of a zero vector (a content-free item) finite.
    return vector * tf.math.rsqrt(tf.reduce_sum(tf.square(vector), axis=-1, keepdims=True) + 1e-12)
