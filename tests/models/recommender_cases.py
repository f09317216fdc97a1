"""A small specification with every kind of feature, and random tasks on it, shared by tests."""

import numpy as np
import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label import Label
from tfmeta.data.task_batch import TaskBatch

MODEL_SCOPES = [("two_tower", "user_vector"), ("two_tower", "all"), ("embedding", "head"), ("embedding", "all")]


def make_spec(unit: str = "rating") -> FeatureSpec:
    label = {"rating": Label("rating", mean=3.4, std=1.1),
             "click": Label("click", unit="click", minimum=0, maximum=1, threshold=1),
             "weight": Label("weight", unit="weight", minimum=0, maximum=100, threshold=1)}[unit]
    return FeatureSpec(
        label=label,
        user_id=Feature("user_id", "categorical", "int64", vocabulary=(1, 2)),
        item_id=Feature("item_id", "categorical", "int64", vocabulary=tuple(range(10))),
        user_features=(Feature("gender", "categorical", "string", vocabulary=("F", "M")),
                       Feature("age", "numeric", "float32", mean=(30.0,), std=(10.0,))),
        item_features=(Feature("genres", "multi_categorical", "string", length=3, vocabulary=("a", "b", "c")),
                       Feature("plot", "text", "string", length=4, hash_buckets=20),
                       Feature("vector", "dense_vector", "float32", length=3, mean=(0.0,) * 3, std=(1.0,) * 3)))


def make_batch(tasks: int = 5, *, support: int = 6, query: int = 4, unit: str = "rating", seed: int = 0) -> TaskBatch:
    rng = np.random.default_rng(seed)

    def items(count):
        return {"item_id": rng.integers(0, 12, (tasks, count)).astype(np.int32),
                "genres": rng.integers(0, 5, (tasks, count, 3)).astype(np.int32),
                "plot": rng.integers(0, 21, (tasks, count, 4)).astype(np.int32),
                "vector": rng.normal(size=(tasks, count, 3)).astype(np.float32)}

    def labels(count):
        return (rng.integers(1, 6, (tasks, count)) if unit == "rating"
                else rng.integers(0, 2, (tasks, count))).astype(np.float32)

    batch = TaskBatch(
        user={"gender": rng.integers(0, 4, tasks).astype(np.int32), "age": rng.normal(size=tasks).astype(np.float32)},
        support_item=items(support), support_label=labels(support),
        support_length=rng.integers(1, support + 1, tasks).astype(np.int32),
        query_item=items(query), query_label=labels(query),
        query_length=rng.integers(1, query + 1, tasks).astype(np.int32))
    return tf.nest.map_structure(tf.constant, batch)


def randomise(recommender, *, seed: int = 0, scale: float = 0.2) -> None:
    """Gives every weight a random value, so that no path is hidden behind a zero; inner rates stay small."""
    rng = np.random.default_rng(seed)
    for variable in recommender.trainable_variables:
        value = rng.normal(scale=scale, size=variable.shape)
        if "log_inner_rate" in variable.path:
            value = np.log(0.01) + 0.1 * value
        variable.assign(value.astype(variable.dtype))
