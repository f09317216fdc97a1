"""Embeds the transformed features of one side."""

import keras
import numpy as np
import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.models.layers import seeds


class FeatureEncoder(keras.layers.Layer):
    """Concatenates an embedding per categorical, multi-valued or text feature and all dense numbers.

    All features of the side share one table, each with its own range of rows, so that two look-ups (one for all
    categorical features, one for all lists and texts) do the work of one per feature, and an optimizer has one
    variable to update. The table is read by rows alone, never as a whole, so no work grows with it; in mixed
    precision the rows that were read are cast. Its gradient is a `tf.IndexedSlices`.

    A list or text is the mean of its values' embeddings, padding left out and never looked up. Missing values and
    the hash buckets of unknown ones start at zero, so that what was never trained adds nothing. Numeric and vector
    features are concatenated as they are after the embeddings; projecting them is the caller's, because a scope may
    adapt that projection.

    Args:
      features: features of one side.
      embedding_dim: width of each embedding.
      seed: of the initial values.
      prefix: part of the variables' names, to tell sides apart.

    Attributes:
      table: `[sum of num_ids, embedding_dim]`, None where no feature is embedded.
      rows: feature name -> its range of the table's rows.
    """

    def __init__(self, features: tuple[Feature, ...], *, embedding_dim: int, seed: int, prefix: str, **kwargs):
        super().__init__(name=f"{prefix}_encoder", **kwargs)
        self.categorical = tuple(f for f in features if f.kind == "categorical")
        self.lists = tuple(f for f in features if f.num_ids and f.kind != "categorical")
        self.dense = tuple(f for f in features if not f.num_ids)
        self.embedding_dim = embedding_dim
        embedded = (*self.categorical, *self.lists)
        self.embedded_width = embedding_dim * len(embedded)
        self.dense_width = sum(f.length or 1 for f in self.dense)
        ends = np.cumsum([f.num_ids for f in embedded], dtype=np.int64)
        self.rows = {f.name: range(int(end) - f.num_ids, int(end)) for f, end in zip(embedded, ends, strict=True)}
        # Without autocast: Keras would cast the whole table to the compute dtype before a row is read.
        self.table = self.add_weight(
            name=f"{prefix}_embedding", shape=(int(ends[-1]), embedding_dim), autocast=False,
            initializer=_blocks(embedded, seed, prefix)) if embedded else None
        self.built = True

    @property
    def width(self) -> int:
        return self.embedded_width + self.dense_width

    def call(self, features: dict[str, tf.Tensor], *, lead: tf.Tensor) -> tf.Tensor:
        """Returns `[..., width]` in the layer's compute dtype: categorical features, lists and texts, numbers.

        Args:
          features: name -> transformed feature `[..., ...]`.
          lead: int32 vector, the leading shape `...`; needed where a side has no features at all.
        """
        parts = []
        if self.categorical:
            ids = tf.stack([features[f.name] for f in self.categorical], axis=-1)
            vectors = self._look_up(ids, [self.rows[f.name].start for f in self.categorical])
            width = self.embedding_dim * len(self.categorical)
            parts.append(tf.reshape(vectors, tf.concat([tf.shape(ids)[:-1], [width]], axis=0)))
        if self.lists:
            parts.append(self._means([features[f.name] for f in self.lists]))
        for feature in self.dense:
            value = tf.cast(features[feature.name], self.compute_dtype)
            parts.append(value if feature.length else value[..., None])
        if not parts:
            return tf.zeros(tf.concat([lead, [0]], axis=0), self.compute_dtype)
        return tf.concat(parts, axis=-1)

    def _look_up(self, ids: tf.Tensor, first_rows: list[int]) -> tf.Tensor:
        """Ids `[..., N]` and the first rows `[N]` of their features -> `[..., N, embedding_dim]`."""
        vectors = tf.gather(self.table.value, ids + tf.constant(first_rows, ids.dtype))
        return tf.cast(vectors, self.compute_dtype)

    def _means(self, ids: list[tf.Tensor]) -> tf.Tensor:
        """Ids `[..., length]` of each list -> `[..., lists * embedding_dim]`: the mean of each one's values."""
        lists, lead = len(ids), tf.shape(ids[0])[:-1]
        flat = tf.reshape(tf.concat(ids, axis=-1), [-1, sum(f.length for f in self.lists)])
        # Each value once, and no vector of padding: a look-up of every position would cost several times as much.
        place = tf.where(flat > 0)
        first_row = np.concatenate([np.full(f.length, self.rows[f.name].start) for f in self.lists])
        of_list = np.repeat(np.arange(lists), [f.length for f in self.lists])
        values = tf.gather_nd(flat + tf.constant(first_row, flat.dtype), place)
        rows, index = tf.unique(values)
        segment = tf.cast(place[:, 0], tf.int32) * lists + tf.gather(tf.constant(of_list, tf.int32), place[:, 1])
        means = tf.sparse.segment_mean(tf.gather(self.table.value, rows), index, segment,
                                       num_segments=tf.shape(flat)[0] * lists)
        means = tf.cast(means, self.compute_dtype)
        return tf.reshape(means, tf.concat([lead, [lists * self.embedding_dim]], axis=0))


def _blocks(features: tuple[Feature, ...], seed: int, prefix: str):
    """Initialises each feature's rows by a draw of its own: zeros for untrained ids, then random known values."""

    def initializer(shape, dtype=None):
        blocks = []
        for feature in features:
            untrained = 1 if feature.kind == "text" else 1 + feature.hash_buckets
            drawn = seeds.normal(seed, f"{prefix}/{feature.name}", 0.05)((feature.num_ids, shape[1]), dtype=dtype)
            blocks += [tf.zeros((untrained, shape[1]), drawn.dtype), drawn[untrained:]]
        return tf.concat(blocks, axis=0)

    return initializer
