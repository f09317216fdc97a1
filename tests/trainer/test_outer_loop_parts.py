"""The pieces of the outer loop against closed forms."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfmeta.errors import ConfigError
from trainer.config import EarlyStoppingConfig, OptimizerConfig
from trainer.distinct_slices import DistinctSlices, distinct
from trainer.distribution.distributed_outer_step import not_empty, within_table
from trainer.early_stopping import EarlyStopping
from trainer.item_id_dropout import item_id_dropout, task_keys
from trainer.optimizer import LearningRate, build_optimizer
from trainer.vertex_environment import VertexEnvironment


def test_item_id_dropout_is_consistent_per_task_and_item():
    rows = tf.constant([[4, 9, 4, 7, -1]] * 400)
    key = task_keys(tf.constant(400), seed=1, step=tf.constant(5, tf.int64))
    hidden = (item_id_dropout(rows, rows + 2, rate=0.5, key=key) == 0).numpy()
    np.testing.assert_array_equal(hidden[:, 0], hidden[:, 2])  # one item, two places
    again = item_id_dropout(rows[:, ::-1], rows[:, ::-1] + 2, rate=0.5, key=key).numpy()[:, ::-1]
    np.testing.assert_array_equal(again == 0, hidden)  # wherever it stands
    # Independent between items, and between tasks: 2 x 2 table and runs against chance.
    table = np.histogram2d(hidden[:, 0], hidden[:, 1], bins=2)[0]
    assert stats.chi2_contingency(table).pvalue > 0.001
    assert stats.chi2_contingency(np.histogram2d(hidden[:-1, 0], hidden[1:, 0], bins=2)[0]).pvalue > 0.001


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_item_id_dropout_rate_over_items_and_steps(rate):
    rows = tf.tile(tf.range(2000)[None, :], [20, 1])
    means = []
    for step in range(3):
        key = task_keys(tf.constant(20), seed=1, step=tf.constant(step, tf.int64))
        hidden = item_id_dropout(rows, rows + 1, rate=rate, key=key).numpy() == 0
        assert stats.binomtest(int(hidden.sum()), hidden.size, rate).pvalue > 0.001
        means.append(hidden)
    assert (means[0] != means[1]).any() and (means[1] != means[2]).any()
    untouched = item_id_dropout(rows, rows + 1, rate=0.0, key=key)
    np.testing.assert_array_equal(untouched, rows + 1)


def rate(step, total=101, **options):
    return float(LearningRate(OptimizerConfig(learning_rate=0.1, **options), total_steps=total)(step))


def test_learning_rate_schedules():
    assert rate(0) == rate(50) == pytest.approx(0.1)
    cosine = {"schedule": "cosine", "final_fraction": 0.2}
    assert rate(0, **cosine) == pytest.approx(0.1)
    assert rate(50, **cosine) == pytest.approx(0.1 * (0.2 + 0.8 * 0.5), rel=1e-5)
    assert rate(100, **cosine) == pytest.approx(0.02, rel=1e-5) == rate(500, **cosine)
    exponential = {"schedule": "exponential", "final_fraction": 0.01}
    assert rate(50, **exponential) == pytest.approx(0.1 * math.sqrt(0.01), rel=1e-5)
    warm = {"warmup_steps": 10}
    assert [rate(s, **warm) for s in (0, 4, 9, 10)] == pytest.approx([0.01, 0.05, 0.1, 0.1])
    assert rate(10, warmup_steps=10, **cosine) == pytest.approx(0.1)


def test_weight_decay_spares_exempt_variables():
    kernel, bias = keras.Variable([[2.0]]), keras.Variable([2.0])
    config = OptimizerConfig(name="sgd", learning_rate=0.5, weight_decay=0.1)
    optimizer = build_optimizer(config, schedule=LearningRate(config, total_steps=1), variables=[kernel, bias],
                                exempt=[bias])
    optimizer.apply([tf.zeros([1, 1]), tf.zeros([1])], [kernel, bias])
    assert float(kernel.value[0, 0]) == pytest.approx(2.0 * (1 - 0.5 * 0.1))
    assert float(bias.value[0]) == 2.0


def stopping(metric, **options):
    return EarlyStopping.create(EarlyStoppingConfig(metric=metric, **options), default="val_mae")


def test_early_stopping_keeps_the_best_and_counts_patience():
    state = stopping("val_mae", patience=2, min_delta=0.01)
    assert state.update({"val_mae": 1.0}, epoch=1)
    assert not state.update({"val_mae": 0.995}, epoch=2)  # less than min_delta
    assert not state.should_stop
    assert state.update({"val_mae": 0.9}, epoch=3)
    assert not state.update({"val_mae": float("nan")}, epoch=4) and not state.update({"val_mae": 1.1}, epoch=5)
    assert state.should_stop and (state.best, state.best_epoch) == (0.9, 3)
    rising = stopping("val_auc", patience=None)
    assert rising.update({"val_auc": 0.5}, epoch=1) and rising.update({"val_auc": 0.6}, epoch=2)
    assert not rising.should_stop


def test_early_stopping_metric_by_default_and_unknown_metric():
    assert not stopping("val_ndcg@20").lower_is_better and stopping(None).lower_is_better
    assert stopping(None).metric == "val_mae"
    with pytest.raises(ConfigError, match="Did you mean 'val_mae'"):
        stopping("val_maee").check_metric(["val_mae", "val_auc"])


def test_vertex_environment():
    assert VertexEnvironment.read({"AIP_MODEL_DIR": "gs://b/m", "AIP_DATA_FORMAT": ""}) == VertexEnvironment(
        model_dir="gs://b/m")


@pytest.mark.parametrize("rows", [[], [2, 0]])
def test_an_empty_gradient_travels_as_a_row_behind_its_table(rows):
    gradient = DistinctSlices(tf.ones([len(rows), 2]), tf.constant(rows, tf.int32), tf.constant([3, 2], tf.int64))
    travels = not_empty(gradient)
    assert list(travels.indices) == (rows or [3])
    np.testing.assert_array_equal(travels.values, np.ones((2, 2)) if rows else np.zeros((1, 2)))
    # As two replicas' gradients arrive, one of them perhaps without slices.
    both = distinct(tf.IndexedSlices(tf.concat([travels.values, tf.ones([1, 2])], 0),
                                     tf.concat([travels.indices, [1]], 0), gradient.dense_shape))
    arrived = within_table(both)
    assert list(arrived.indices) == [*rows, 1]
    np.testing.assert_array_equal(arrived.values, np.ones((len(rows) + 1, 2)))
    dense = tf.zeros([3, 2])
    assert not_empty(dense) is dense and within_table(dense) is dense
