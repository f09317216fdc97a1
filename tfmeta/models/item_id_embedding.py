"""The part of an item's representation that only its id knows."""

import keras
import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.models.layers import seeds


class ItemIdEmbedding(keras.layers.Layer):
    """One vector per item of the training vocabulary, exactly zero for every other item.

    Zero for a cold item means that content alone speaks for it; dropping ids out in training teaches content to
    do so (the idea of DropoutNet: Volkovs, Yu and Poutanen, NeurIPS 2017, applied to ids).

    Args:
      feature: the item id.
      width: units of the vector.
      seed: of the initial values.
    """

    def __init__(self, feature: Feature, *, width: int, seed: int, **kwargs):
        super().__init__(name="item_id_embedding", **kwargs)
        self._feature = feature
        # Transformed ids 0 to hash_buckets are missing and unknown; the table holds known items only.
        self._first = 1 + feature.hash_buckets
        # Without autocast: Keras would cast the whole table to the compute dtype before a row is read.
        self.table = self.add_weight(name="item_id_embedding", shape=(max(feature.num_ids - self._first, 1), width),
                                     autocast=False, initializer=seeds.normal(seed, "item_id", 0.01))
        self.built = True

    def call(self, ids: tf.Tensor) -> tf.Tensor:
        """Transformed ids `[...]` int32 -> `[..., width]` in the compute dtype."""
        known = tf.reshape(ids >= self._first, [-1])
        # Other items read no row, so none is updated on their behalf.
        rows = tf.boolean_mask(tf.reshape(ids, [-1]), known) - self._first
        vectors = tf.cast(tf.gather(self.table.value, rows), self.compute_dtype)
        width = self.table.shape[1]
        vectors = tf.concat([tf.zeros([1, width], vectors.dtype), vectors], axis=0)
        place = tf.where(known, tf.cumsum(tf.cast(known, tf.int32)), 0)
        return tf.reshape(tf.gather(vectors, place), tf.concat([tf.shape(ids), [width]], axis=0))
