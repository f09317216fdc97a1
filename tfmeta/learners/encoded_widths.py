"""How wide a model's encoded users and items are, found by encoding one of each."""

import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.models.meta_model import MetaModel


def one_user(model: MetaModel) -> tf.Tensor:
    """Returns an encoded user without known features, `[1, Du]`."""
    return model.encode_user({f.name: _zeros(f, 1) for f in model.feature_spec.user_features}, tasks=tf.constant(1))


def one_item(model: MetaModel) -> tf.Tensor:
    """Returns an encoded item without known features, `[1, 1, Di]`."""
    features = (*model.feature_spec.item_features, model.feature_spec.item_id)
    return model.encode_item({f.name: _zeros(f, 1, 1) for f in features})


def encoded_widths(model: MetaModel) -> tuple[int, int]:
    """Returns (Du, Di)."""
    return one_user(model).shape[-1], one_item(model).shape[-1]


def _zeros(feature: Feature, *lead: int) -> tf.Tensor:
    shape = [*lead, *([feature.length] if feature.length else [])]
    return tf.zeros(shape, tf.int32 if feature.num_ids else tf.float32)
