"""Sampled negatives of implicit feedback: where they stand, what they never are, how they are drawn."""

import numpy as np
import pytest
import tensorflow as tf

from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.errors import ConfigError

CLICK = Label(name="click", unit="click", minimum=0.0, maximum=1.0, threshold=0.5)
USERS, ITEMS, QUERY, NEGATIVES = 30, 40, 2, 12


def interactions(seed=0) -> Interactions:
    """Item 0 is met by everybody, the last five by nobody, the others alike."""
    rng = np.random.default_rng(seed)
    user, item = [], []
    for row in range(USERS):
        chosen = np.append(0, 1 + rng.choice(ITEMS - 6, rng.integers(4, 20), replace=False))
        user += [row] * len(chosen)
        item += chosen.tolist()
    return Interactions(user_row=np.array(user, np.int32), item_row=np.array(item, np.int32),
                        label=np.ones(len(user), np.float32), time=np.arange(len(user), dtype=np.int64))


def sampler(data, **options) -> TaskSampler:
    config = TaskSamplerConfig(query_size=QUERY, min_interactions=3, negatives=NEGATIVES, meta_batch_size=8, **options)
    return TaskSampler(data, config=config, label=CLICK, seed=3)


@pytest.mark.parametrize("how", ["uniform", "popularity"])
def test_negatives_follow_the_positives_and_were_never_met(how):
    data = interactions()
    met = {u: set(data.item_row[data.user_row == u].tolist()) for u in range(USERS)}
    drawn = sampler(data, negative_sampling=how, max_interactions=10)
    seen = 0
    for batch in range(drawn.steps_per_epoch):
        tasks = drawn.batch(epoch=0, batch=batch)
        assert tasks.query_row.shape[1] == QUERY + NEGATIVES
        for user, row, label, length, support, size in zip(
                *(x.numpy() for x in (tasks.user_row, tasks.query_row, tasks.query_label, tasks.query_length,
                                      tasks.support_row, tasks.support_length)), strict=True):
            assert (label[:QUERY] == 1).all() and (label[QUERY:] == 0).all()
            assert set(row[:QUERY]) <= met[user] and set(support[:size]) <= met[user]
            negative = row[QUERY:length]
            # Also items that the user has met but this task does not use.
            assert not set(negative.tolist()) & met[user] and (negative < ITEMS - 5).all() and (negative > 0).all()
            assert (row[length:] == -1).all()
            seen += len(negative)
    assert seen > USERS * NEGATIVES / 3


def test_positives_are_those_without_negatives():
    data = interactions()
    plain = TaskSampler(data, config=TaskSamplerConfig(query_size=QUERY, min_interactions=3, meta_batch_size=8),
                        label=CLICK, seed=3).batch(epoch=1, batch=2)
    tasks = sampler(data).batch(epoch=1, batch=2)
    for name in ("user_row", "support_row", "support_label", "support_length"):
        np.testing.assert_array_equal(getattr(tasks, name), getattr(plain, name))
    np.testing.assert_array_equal(tasks.query_row[:, :QUERY], plain.query_row)


def test_negatives_differ_by_epoch_and_not_by_process():
    data = interactions()
    first, again, other = (sampler(data).batch(epoch=e, batch=0) for e in (0, 0, 1))
    np.testing.assert_array_equal(first.query_row, again.query_row)
    assert not tf.reduce_all(first.query_row[:, QUERY:] == other.query_row[:, QUERY:])


def test_popularity_prefers_what_many_have_met():
    # One user who has met item 0 alone; item 1 has 16 times the interactions of item 2.
    user = np.concatenate([[0] * 3, np.arange(1, 33), np.arange(33, 35)])
    item = np.concatenate([[0, 3, 4], [1] * 32, [2] * 2])
    order = np.argsort(user, kind="stable")
    data = Interactions(user_row=user[order].astype(np.int32), item_row=item[order].astype(np.int32),
                        label=np.ones(len(user), np.float32), time=np.arange(len(user), dtype=np.int64))
    for how, expected in (("uniform", 1.0), ("popularity", 16**0.75)):
        config = TaskSamplerConfig(query_size=2, min_interactions=3, negatives=4000, negative_sampling=how)
        tasks = TaskSampler(data, config=config, label=CLICK, seed=0).batch(epoch=0, batch=0)
        counts = np.bincount(tasks.query_row.numpy()[0, 2:int(tasks.query_length[0])], minlength=5)
        assert counts[0] == counts[3] == counts[4] == 0
        assert counts[1] / counts[2] == pytest.approx(expected, rel=0.2)


def test_ratings_have_no_negatives():
    with pytest.raises(ConfigError, match=r"sampler.negatives.*ratings"):
        TaskSampler(interactions(), config=TaskSamplerConfig(query_size=2, min_interactions=3, negatives=1),
                    label=Label(name="rating"))
