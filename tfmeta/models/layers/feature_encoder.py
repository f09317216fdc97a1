"""Embeds the transformed features of one side."""

import keras
import numpy as np
import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.models.layers import seeds


class FeatureEncoder(keras.layers.Layer):
    """Concatenates an embedding per categorical, multi-valued or text feature and all dense numbers.

    A list or text is the mean of its values' embeddings, padding left out. Missing values and the hash buckets of
    unknown ones start at zero, so that what was never trained adds nothing. Numeric and vector features are
    concatenated as they are after the embeddings; projecting them is the caller's, because a scope may adapt
    that projection.

    Args:
      features: features of one side.
      embedding_dim: width of each embedding.
      seed: of the initial values.
      prefix: part of the variables' names, to tell sides apart.
    """

    def __init__(self, features: tuple[Feature, ...], *, embedding_dim: int, seed: int, prefix: str, **kwargs):
        super().__init__(name=f"{prefix}_encoder", **kwargs)
        self.embedded = tuple(f for f in features if f.num_ids)
        self.dense = tuple(f for f in features if not f.num_ids)
        self.embedding_dim = embedding_dim
        self.embedded_width = embedding_dim * len(self.embedded)
        self.dense_width = sum(f.length or 1 for f in self.dense)
        self.tables = {}
        for feature in self.embedded:
            self.tables[feature.name] = self.add_weight(
                name=f"{prefix}_{feature.name}_embedding", shape=(feature.num_ids, embedding_dim),
                initializer=_known_rows(feature, seed, prefix))
        self.built = True

    @property
    def width(self) -> int:
        return self.embedded_width + self.dense_width

    def call(self, features: dict[str, tf.Tensor], *, lead: tf.Tensor) -> tf.Tensor:
        """Returns `[..., width]` in the layer's compute dtype.

        Args:
          features: name -> transformed feature `[..., ...]`.
          lead: int32 vector, the leading shape `...`; needed where a side has no features at all.
        """
        parts = [self._embed(f, features[f.name]) for f in self.embedded]
        for feature in self.dense:
            value = tf.cast(features[feature.name], self.compute_dtype)
            parts.append(value if feature.length else value[..., None])
        if not parts:
            return tf.zeros(tf.concat([lead, [0]], axis=0), self.compute_dtype)
        return tf.concat(parts, axis=-1)

    def _embed(self, feature: Feature, ids: tf.Tensor) -> tf.Tensor:
        table = tf.cast(tf.convert_to_tensor(self.tables[feature.name]), self.compute_dtype)
        vectors = tf.gather(table, ids)
        if feature.kind == "categorical":
            return vectors
        present = tf.cast(ids > 0, self.compute_dtype)[..., None]
        count = tf.maximum(tf.reduce_sum(present, axis=-2), 1.0)
        return tf.reduce_sum(vectors * present, axis=-2) / count


def _known_rows(feature: Feature, seed: int, prefix: str):
    draw = seeds.normal(seed, f"{prefix}/{feature.name}", 0.05)
    untrained = 1 if feature.kind == "text" else 1 + feature.hash_buckets

    def initializer(shape, dtype=None):
        known = (np.arange(shape[0]) >= untrained)[:, None]
        return draw(shape, dtype=dtype) * keras.ops.convert_to_tensor(known, dtype)

    return initializer
