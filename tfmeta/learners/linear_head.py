"""The linear head of a model, as closed-form learners see it."""

import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.models.meta_model import MetaModel


def head_width(model: MetaModel) -> int:
    """Returns P, the number of weights of the model's linear head.

    Raises:
      ConfigError: if the model has no linear head in its scope.
    """
    spec = model.feature_spec
    user = model.encode_user(_blank(spec.user_features, [1]), tasks=tf.constant(1))
    item = model.encode_item(_blank((*spec.item_features, spec.item_id), [1, 1]))
    return model.linear(user, item)[0].shape[-1]


def _blank(features: tuple[Feature, ...], lead: list[int]) -> dict[str, tf.Tensor]:
    """Transformed features of nobody: everything missing."""
    return {f.name: tf.zeros([*lead, *([f.length] if f.length else [])], tf.int32 if f.num_ids else tf.float32)
            for f in features}
