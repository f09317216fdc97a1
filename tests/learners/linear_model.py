"""A model whose meta-gradients have closed forms, and random tasks for it."""

import numpy as np
import tensorflow as tf

from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.meta_model import MetaModel

TASKS, SUPPORT, QUERY, WIDTH = 3, 5, 4, 6


class LinearModel(MetaModel):
    """output = items . w"""

    SCOPES = ("all",)

    def __init__(self, feature_spec):
        super().__init__(feature_spec, scope="all", seed=0, name="linear")
        self.weight = self.add_weight(name="w", shape=(WIDTH,), initializer="zeros")

    def encode_user(self, features, *, tasks):
        return tf.zeros([tasks, 1], tf.float64)

    def encode_item(self, features):
        return features["x"]

    def initial_fast(self, user):
        return {"w": tf.tile(tf.convert_to_tensor(self.weight)[None], [tf.shape(user)[0], 1])}

    def apply(self, fast, user, item, *, record=None):
        return tf.linalg.matvec(item, fast["w"])

    def get_config(self):
        return {}


def problem(seed=0):
    """Returns w `[WIDTH]`, support items and targets, query items and targets, float64."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=WIDTH), rng.normal(size=(TASKS, SUPPORT, WIDTH)), rng.normal(size=(TASKS, SUPPORT)),
            rng.normal(size=(TASKS, QUERY, WIDTH)), rng.normal(size=(TASKS, QUERY)))


def task_tensors(xs, ys, xq):
    """Returns the encoded support and query of `problem`."""
    user = tf.zeros([TASKS, 1], tf.float64)
    support = Support(user=user, item=tf.constant(xs), target=tf.constant(ys), length=tf.fill([TASKS], xs.shape[1]))
    return support, Query(user=user, item=tf.constant(xq))
