"""How wide the representations of a model are."""

import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.models.meta_model import MetaModel


def encoded_widths(model: MetaModel) -> tuple[int, int]:
    """Returns (Du, Di), the widths of an encoded user and of an encoded item."""
    spec = model.feature_spec
    user = model.encode_user(_blank(spec.user_features), tasks=tf.constant(1))
    item = model.encode_item(_blank((spec.item_id, *spec.item_features)))
    return user.shape[-1], item.shape[-1]


def _blank(features: tuple[Feature, ...]) -> dict[str, tf.Tensor]:
    """One row of missing values, transformed."""
    return {f.name: tf.zeros([1, *([f.length] if f.length else [])], tf.int32 if f.num_ids else tf.float32)
            for f in features}
