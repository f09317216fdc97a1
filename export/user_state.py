"""A user's adapted weights as one flat row of numbers that a client keeps."""

import math

import tensorflow as tf

from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.data.raw_columns import missing_row
from tfmeta.models.fast_weights import Fast, materialise, weight_shape
from tfmeta.models.recommender import Recommender

# A state of more numbers is as large as a request of many interactions.
LARGE_STATE = 4096


class UserState:
    """How fast weights become a row of P float32 numbers, and back.

    The fast weights are written as plain tensors, flattened per task (row-major) and joined in the order of their
    names.

    Args:
      recommender: whose learner defines the fast weights.

    Attributes:
      parts: (name, shape of one task's value), in their order within the state.
      width: P.
    """

    def __init__(self, recommender: Recommender):
        features = recommender.feature_spec.user_features
        nobody = {name: tf.convert_to_tensor(value) for name, value in missing_row(features).items()}
        with tf.init_scope():
            user = recommender.encode_user(FeatureTransform(features)(nobody), tasks=tf.constant(1))
            start = recommender.learner.init(user)
        self.parts = tuple((name, tuple(weight_shape(start[name]).as_list())) for name in sorted(start))
        self._sizes = [math.prod(shape) for _, shape in self.parts]
        self._dtype = recommender.variable_dtype
        self.width = sum(self._sizes)

    def flatten(self, fast: Fast, *, tasks: tf.Tensor) -> tf.Tensor:
        """Returns the state `[B, P]` float32 of fast weights in any form; `tasks` is B."""
        plain = materialise(fast, tasks=tasks)
        flat = [tf.reshape(tf.cast(plain[name], tf.float32), [-1, size])
                for (name, _), size in zip(self.parts, self._sizes, strict=True)]
        return tf.ensure_shape(tf.concat(flat, axis=1), [None, self.width])

    def unflatten(self, state: tf.Tensor) -> Fast:
        """Returns the fast weights, name -> `[B, ...]`, of states `[B, P]`."""
        pieces = tf.split(tf.cast(state, self._dtype), self._sizes, axis=1)
        return {name: tf.reshape(piece, [-1, *shape]) for (name, shape), piece in zip(self.parts, pieces, strict=True)}

    def describe(self) -> dict:
        """Returns `{"width": P, "parts": [{"name", "shape"}]}`, JSON-able."""
        return {"width": self.width, "parts": [{"name": name, "shape": list(shape)} for name, shape in self.parts]}
