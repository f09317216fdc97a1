"""Raw features to integers and standardised floats, inside the graph."""

from collections.abc import Iterable

import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.errors import ConfigError, suggest

# A standardised value further out than this is an outlier or a client's mistake; it must not drown the rest.
STANDARD_LIMIT = 10.0
# Every ASCII character that is no letter, digit or underscore separates tokens; bytes of UTF-8 letters do not.
_SEPARATORS = r"[\x00-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]+"


class FeatureTransform(tf.Module):
    """Turns raw features into what models read; the same object in training and in the exported graph.

    See `Feature` for raw and transformed shapes and dtypes. Only stock TensorFlow operations are used and no
    value can make the graph fail: unknown values go to hash buckets, missing and non-finite ones to 0, and
    standardised numbers are clipped to +-10.

    Args:
      features: the features of one side (user or item).

    Raises:
      ConfigError: when called without one of the features or with an unknown one.
    """

    def __init__(self, features: Iterable[Feature], *, name: str | None = None):
        super().__init__(name=name)
        self._features = tuple(features)
        self._tables = {f.name: _table(f) for f in self._features if f.vocabulary}

    @property
    def features(self) -> tuple[Feature, ...]:
        return self._features

    def __call__(self, raw: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Transforms raw features `[..., ...]`; leading axes are kept."""
        names = {f.name for f in self._features}
        for name in raw:
            if name not in names:
                raise ConfigError(f"Unknown feature '{name}'.{suggest(name, names)}")
        for name in names:
            if name not in raw:
                raise ConfigError(f"Feature '{name}' is required; received {sorted(raw)}.")
        return {f.name: self._transform(f, raw[f.name]) for f in self._features}

    def non_finite(self, raw: dict[str, tf.Tensor], *, leading_rank: int) -> tf.Tensor | None:
        """Returns bool `[leading axes]`: where a float feature holds NaN or infinity; None without floats."""
        found = None
        for feature in self._features:
            if feature.dtype != "float32":
                continue
            bad = tf.logical_not(tf.math.is_finite(tf.convert_to_tensor(raw[feature.name], tf.float32)))
            if bad.shape.rank > leading_rank:
                bad = tf.reduce_any(bad, axis=list(range(leading_rank, bad.shape.rank)))
            found = bad if found is None else tf.logical_or(found, bad)
        return found

    def _transform(self, feature: Feature, value: tf.Tensor) -> tf.Tensor:
        if feature.kind in ("numeric", "dense_vector"):
            return _standardise(feature, tf.convert_to_tensor(value, tf.float32))
        if feature.kind == "text":
            return _tokens(feature, tf.convert_to_tensor(value, tf.string))
        dtype = tf.int64 if feature.dtype == "int64" else tf.string
        value = tf.convert_to_tensor(value, dtype)
        text = tf.strings.as_string(value) if feature.dtype == "int64" else value
        bucket = tf.strings.to_hash_bucket_fast(text, feature.hash_buckets) + 1
        if feature.name in self._tables:
            known = self._tables[feature.name].lookup(value)
            index = tf.where(known >= 0, known + 1 + feature.hash_buckets, bucket)
        else:
            index = bucket
        index = tf.where(tf.equal(value, feature.missing), tf.zeros_like(index), index)
        return tf.cast(index, tf.int32)


def _table(feature: Feature) -> tf.lookup.StaticHashTable:
    dtype = tf.int64 if feature.dtype == "int64" else tf.string
    keys = tf.constant(list(feature.vocabulary), dtype)
    initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.range(len(feature.vocabulary), dtype=tf.int64))
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


def _standardise(feature: Feature, value: tf.Tensor) -> tf.Tensor:
    width = feature.length or 1
    mean = tf.constant(feature.mean or (0.0,) * width, tf.float32)
    std = tf.constant(feature.std or (1.0,) * width, tf.float32)
    if feature.kind == "numeric":
        mean, std = mean[0], std[0]
    finite = tf.math.is_finite(value)
    # The difference of a finite value may still overflow, hence the clip and not a test of the result.
    standard = (tf.where(finite, value, tf.broadcast_to(mean, tf.shape(value))) - mean) / std
    return tf.clip_by_value(standard, -STANDARD_LIMIT, STANDARD_LIMIT)


def _tokens(feature: Feature, value: tf.Tensor) -> tf.Tensor:
    shape = tf.shape(value)
    text = tf.strings.regex_replace(tf.strings.lower(tf.reshape(value, [-1])), _SEPARATORS, " ")
    tokens = tf.strings.split(tf.strings.strip(text))
    ids = tf.ragged.map_flat_values(
        lambda t: tf.cast(tf.strings.to_hash_bucket_fast(t, feature.hash_buckets), tf.int32) + 1, tokens)
    dense = ids.to_tensor(default_value=0, shape=[None, feature.length])
    dense = tf.reshape(dense, tf.concat([shape, [feature.length]], axis=0))
    return tf.ensure_shape(dense, value.shape.concatenate([feature.length]))
