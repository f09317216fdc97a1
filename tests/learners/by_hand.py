"""Dense layers and normalisation in plain NumPy, reading a recommender's weights by path."""

import numpy as np
import tensorflow as tf
from recommender_cases import make_batch, make_spec, randomise

from tfmeta.models.recommender import build_recommender

TOWER = {"name": "two_tower", "embedding_dim": 2, "vector_dim": 3, "user_units": [3], "item_units": [3]}


def build(learner: dict, *, model: dict | None = None, unit: str = "rating", seed: int = 0):
    """Returns a recommender with random weights."""
    built = build_recommender(make_spec(unit), model=model or TOWER, learner=learner)
    randomise(built, seed=seed, scale=0.5)
    return built


def weights(built) -> dict[str, np.ndarray]:
    return {v.path: v.numpy() for v in built.trainable_variables}


def tasks(built, *, unit: str = "rating", seed: int = 0):
    """Returns (user [B, Du], support item, target, length, query item) in NumPy and the batch they are of."""
    batch = make_batch(tasks=3, support=4, query=3, unit=unit, seed=seed)
    batch = batch._replace(support_length=tf.constant([4, 2, 1]), query_length=tf.constant([3, 3, 2]))
    user = built.encode_user(batch.user, tasks=tf.constant(3)).numpy()
    arrays = (user, built.encode_item(batch.support_item).numpy(), built.to_target(batch.support_label).numpy(),
              batch.support_length.numpy(), built.encode_item(batch.query_item).numpy())
    return arrays, batch


def adapted_output(built, arrays) -> np.ndarray:
    """Returns the learner's adapted outputs `[B, Q]` in target units."""
    from tfmeta.learners.task_tensors import Query, Support

    user, item, target, length, query = map(tf.constant, arrays)
    fast = built.learner.adapt(built.learner.init(user), Support(user=user, item=item, target=target, length=length))
    return built.learner.predict(fast, Query(user=user, item=query)).output.numpy()


def dense(w: dict[str, np.ndarray], name: str, x: np.ndarray, *, layers: int = 1) -> np.ndarray:
    """A `FastDenseStack` called `name`: ReLU between layers, none after the last."""
    for layer in range(layers):
        x = x @ w[f"{name}/{name}_{layer}_kernel"] + w[f"{name}/{name}_{layer}_bias"]
        x = np.maximum(x, 0) if layer < layers - 1 else x
    return x


def layer_norm(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + 1e-3)
    return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]


def two_tower(w: dict[str, np.ndarray], user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """u . v_i + c_u + c_i + c for encoded users `[..., D + 1]` and items `[..., D + 1]`."""
    return (user[..., :-1] * item[..., :-1]).sum(-1) + user[..., -1] + item[..., -1] + w["two_tower/offset"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
