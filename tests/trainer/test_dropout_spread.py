"""Rates of hiding item ids that vary between tasks."""

import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import make_spec, randomise
from scipy import stats
from test_outer_step import indexed, tables

from tfmeta.models.recommender import build_recommender
from trainer.config import OptimizerConfig
from trainer.item_id_dropout import dropout_rates, item_id_dropout, task_keys
from trainer.optimizer import LearningRate, build_optimizer
from trainer.outer_step import OuterStep

TASKS = 20_000


def keys(*, seed=1, step=0):
    return task_keys(tf.constant(TASKS), seed=seed, step=tf.constant(step, tf.int64))


@pytest.mark.parametrize("spread", [0.15, 0.5, 1.0])
def test_a_share_of_the_tasks_has_rates_uniform_in_the_unit_interval(spread):
    rates = dropout_rates(keys(), rate=0.25, spread=spread).numpy()
    assert rates.shape == (TASKS,) and rates.dtype == np.float32
    drawn = rates[rates != np.float32(0.25)]
    if spread < 1:
        assert stats.binomtest(len(drawn), TASKS, spread).pvalue > 0.001
    else:
        assert len(drawn) == TASKS
    assert stats.kstest(drawn.astype(float), "uniform").pvalue > 0.001
    assert drawn.min() >= 0 and drawn.max() <= 1


def test_rates_are_a_function_of_the_keys_alone():
    rates = dropout_rates(keys(), rate=0.25, spread=0.5).numpy()
    order = np.random.default_rng(0).permutation(TASKS)
    np.testing.assert_array_equal(dropout_rates(tf.gather(keys(), order), rate=0.25, spread=0.5), rates[order])
    for other in (keys(step=1), keys(seed=2)):
        assert np.mean(dropout_rates(other, rate=0.25, spread=0.5).numpy() == rates) < 0.4
    # The same tasks draw their rate whatever the others' is, and more of them as the share grows.
    drawn = rates != 0.25
    np.testing.assert_array_equal(dropout_rates(keys(), rate=0.5, spread=0.5).numpy()[drawn], rates[drawn])
    more = dropout_rates(keys(), rate=0.25, spread=0.8).numpy()
    np.testing.assert_array_equal(more[drawn], rates[drawn])


def test_ids_are_hidden_at_the_rate_of_their_task():
    key, rows = keys()[:400], tf.tile(tf.range(1000)[None, :], [400, 1])
    rates = dropout_rates(key, rate=0.25, spread=0.5)
    hidden = (item_id_dropout(rows, rows + 1, rate=rates, key=key) == 0).numpy().sum(1)
    expected = rates.numpy().astype(float)
    deviation = (hidden - 1000 * expected) / np.sqrt(1000 * expected * (1 - expected) + 1e-9)
    assert np.abs(deviation).max() < 5 and stats.kstest(deviation, "norm").pvalue > 0.001
    # Where the rate is the common one, exactly the ids of a constant rate.
    common = rates.numpy() == 0.25
    constant = item_id_dropout(rows, rows + 1, rate=0.25, key=key).numpy()
    np.testing.assert_array_equal(item_id_dropout(rows, rows + 1, rate=rates, key=key).numpy()[common],
                                  constant[common])


def test_without_spread_the_rate_stays_the_number_it_is():
    assert dropout_rates(keys(), rate=0.25, spread=0.0) == 0.25


def new_step(*, dropout, spread):
    recommender = build_recommender(make_spec(), model={"name": "embedding", "use_item_id": True},
                                    learner={"name": "anil", "scope": "last_layer", "inner_steps": 1})
    randomise(recommender)
    config = OptimizerConfig(learning_rate=0.01)
    optimizer = build_optimizer(config, schedule=LearningRate(config, total_steps=10),
                                variables=recommender.trainable_variables, exempt=[])
    step = OuterStep(recommender, optimizer=optimizer, tables=tables(), clip_norm=1.0, dropout=dropout, seed=4,
                     dropout_spread=spread)
    return step, recommender, optimizer


def state(recommender, optimizer):
    return [*recommender.trainable_variables, *optimizer.variables]


def test_a_continued_run_hides_what_an_uninterrupted_one_hides():
    whole, recommender, optimizer = new_step(dropout=0.1, spread=0.6)
    for number in range(6):
        if number == 3:
            saved = [v.numpy() for v in state(recommender, optimizer)]
        whole(indexed())
    continued, *parts = new_step(dropout=0.1, spread=0.6)
    for variable, value in zip(state(*parts), saved, strict=True):
        variable.assign(value)
    continued.step.assign(3)
    for _ in range(3):
        continued(indexed())
    for left, right in zip(state(recommender, optimizer), state(*parts), strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy(), err_msg=left.path)
    constant, *parts = new_step(dropout=0.1, spread=0.0)
    for _ in range(6):
        constant(indexed())
    assert any((a.numpy() != b.numpy()).any() for a, b in zip(state(recommender, optimizer), state(*parts),
                                                              strict=True))


def test_the_step_encodes_what_its_gathered_batch_shows(float64):
    for dropout, spread in ((0.0, 0.7), (0.3, 1.0)):
        step, recommender, _ = new_step(dropout=dropout, spread=spread)
        for number in range(3):
            number = tf.constant(number, tf.int64)
            np.testing.assert_allclose(step.task_loss(indexed(), number),
                                       recommender.batch_loss(step.gather(indexed(), number)), rtol=1e-12)
