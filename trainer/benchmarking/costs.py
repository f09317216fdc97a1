"""What adaptation costs beside what it gains."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from tfmeta.data.task_set import TaskSet
from trainer.evaluation.scorer import Scorer

# Users a call, support rows of each, repeats of which the median counts.
USERS, SUPPORT, REPEATS = 64, 20, 9


def measure_costs(scorer: Scorer, tasks: TaskSet) -> dict[str, float]:
    """Times a scorer on a batch of 64 users with 20 support rows each, in microseconds per user.

    Returns:
      `score_us_per_user`: without support; `adapt_and_score_us_per_user`: with it, by the same path;
      `adapt_us_per_user`: for recommenders the adaptation alone, from encoded items; for others the difference.
    """
    batch = _batch(tasks)
    bare = batch.truncate(0)
    base, full = (_median(lambda part=part: scorer.score(part)) for part in (bare, batch))
    adapt = _adapt_alone(scorer, batch) if hasattr(scorer, "recommender") else max(0.0, full - base)
    per_user = 1e6 / len(batch)
    return {"adapt_us_per_user": round(adapt * per_user, 2), "score_us_per_user": round(base * per_user, 2),
            "adapt_and_score_us_per_user": round(full * per_user, 2)}


def _batch(tasks: TaskSet) -> TaskSet:
    """Returns 64 tasks with 20 support rows each, rows of the longest supports repeated where they are shorter."""
    tasks = tasks.select(np.argsort(-tasks.support_length, kind="stable")[:USERS])
    tasks = tasks.select(np.resize(np.arange(len(tasks)), USERS))
    place = np.arange(SUPPORT)[None, :] % np.maximum(tasks.support_length, 1)[:, None]
    return dataclasses.replace(
        tasks, support_item=np.take_along_axis(tasks.support_item, place, axis=1),
        support_label=np.take_along_axis(tasks.support_label, place, axis=1),
        support_length=np.where(tasks.support_length > 0, SUPPORT, 0).astype(np.int32),
        query_label=np.full_like(tasks.query_label, np.nan))


def _adapt_alone(scorer, batch: TaskSet) -> float:
    import tensorflow as tf

    recommender = scorer.recommender
    user = recommender.encode_user(scorer.tables.user(batch.user_row), tasks=tf.constant(len(batch)))
    item = recommender.encode_item(scorer.tables.item(batch.support_item))
    adapt = tf.function(recommender.adapt, autograph=False)
    arguments = {"support_item": item, "support_label": tf.constant(batch.support_label),
                 "support_length": tf.constant(batch.support_length)}

    def call() -> None:
        for value in tf.nest.flatten(adapt(user, **arguments)):
            value.numpy()

    return _median(call)


def _median(call: Callable[[], object]) -> float:
    call()
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))
