"""Encoding each item of a batch once gives the numbers of encoding it wherever it stands."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import MODEL_SCOPES, make_batch, make_spec, randomise

from tfmeta.data.feature import Feature
from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.models.recommender import build_recommender
from trainer.outer_step import OuterStep, batch_spec

USERS, ITEMS = 6, 9


def tables() -> FeatureTables:
    features = make_batch(USERS, support=1, query=ITEMS + 1)
    items = {name: value[0] for name, value in features.query_item.items()}
    items["item_id"] = tf.range(ITEMS + 1) % 12
    items["kind"] = tf.range(ITEMS + 1) % 4
    return FeatureTables(users=features.user, items=items, num_users=USERS, num_items=ITEMS)


def indexed() -> IndexedTaskBatch:
    rng = np.random.default_rng(2)
    length = np.array([5, 3, 1, 5], np.int32)
    rows = rng.integers(0, ITEMS, (4, 5)).astype(np.int32)
    rows[np.arange(5)[None, :] >= length[:, None]] = -1
    return IndexedTaskBatch(*map(tf.constant, (
        rng.integers(0, USERS, 4).astype(np.int32), rows, rng.integers(1, 6, (4, 5)).astype(np.float32), length,
        rng.integers(0, ITEMS, (4, 3)).astype(np.int32), rng.integers(1, 6, (4, 3)).astype(np.float32),
        np.full(4, 3, np.int32))))


@pytest.mark.parametrize("model,scope", MODEL_SCOPES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_task_loss_and_its_gradient_are_the_plain_ones(float64, model, scope, dropout):
    recommender = build_recommender(make_spec(), model={"name": model, "use_item_id": True},
                                    learner={"scope": scope, "inner_steps": 2})
    randomise(recommender)
    step = OuterStep(recommender, optimizer=None, tables=tables(), clip_norm=None, dropout=dropout, seed=4)
    values = [v.value for v in recommender.trainable_variables]
    number = tf.constant(3, tf.int64)
    with tf.GradientTape(persistent=True) as tape:
        fast = step.task_loss(indexed(), number)
        plain = recommender.batch_loss(step.gather(indexed(), number))
    np.testing.assert_allclose(fast, plain, rtol=1e-12)
    for variable, left, right in zip(recommender.trainable_variables, tape.gradient(fast, values),
                                     tape.gradient(plain, values), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(left), tf.convert_to_tensor(right), rtol=1e-9, atol=1e-12,
                                   err_msg=variable.path)


def without_lists():
    """A specification whose encoders have static shapes."""
    spec = make_spec()
    kind = Feature("kind", "categorical", "string", vocabulary=("x", "y"))
    return dataclasses.replace(spec, item_features=(kind, *(f for f in spec.item_features if f.name == "vector")))


def trained(support_width, *, batches, spec=None, model="embedding", **learner):
    from trainer.config import OptimizerConfig
    from trainer.optimizer import LearningRate, build_optimizer

    recommender = build_recommender(spec or make_spec(), model={"name": model, "use_item_id": False},
                                    learner={"inner_steps": 2, **learner})
    assert recommender.model.static_shapes == (spec is not None)
    randomise(recommender)
    config = OptimizerConfig(learning_rate=0.01)
    optimizer = build_optimizer(config, schedule=LearningRate(config, total_steps=10),
                                variables=recommender.trainable_variables, exempt=[])
    step = OuterStep(recommender, optimizer=optimizer, tables=tables(), clip_norm=1.0, dropout=0.1, seed=4,
                     dropout_spread=0.6, support_width=support_width)
    for batch in batches:
        step(batch)
    assert int(step.step) == len(batches) and int(step.failed_step) == -1
    return [v.numpy() for v in recommender.trainable_variables]


@pytest.mark.parametrize("case", [
    {}, {"spec": without_lists()},
    pytest.param({"spec": without_lists(), "first_order": True}, marks=pytest.mark.slow),
    pytest.param({"spec": without_lists(), "model": "two_tower", "scope": "all"}, marks=pytest.mark.slow)])
def test_compiling_with_xla_changes_nothing(float64, case):
    batch = indexed()
    short = IndexedTaskBatch(*(t[:3] for t in batch))._replace(support_row=batch.support_row[:3, :3],
                                                               support_label=batch.support_label[:3, :3],
                                                               support_length=tf.constant([3, 3, 1]))
    # Each shape is compiled for itself; two of them, where the whole step is.
    batches = [batch, short, batch] if "spec" in case else [batch, batch]
    for plain, compiled in zip(trained(None, batches=batches, **case), trained(8, batches=batches, **case),
                               strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-9, atol=1e-12)


def test_hidden_ids_change_the_loss():
    recommender = build_recommender(make_spec())
    randomise(recommender)
    losses = [OuterStep(recommender, optimizer=None, tables=tables(), clip_norm=None, dropout=d, seed=4).task_loss(
        indexed(), tf.constant(0, tf.int64)).numpy() for d in (0.0, 0.9)]
    assert np.abs(losses[0] - losses[1]).max() > 1e-3


def test_what_is_new_in_every_call_is_asked_for_in_every_call(monkeypatch):
    """Keys of collectives between replicas are such: one that is used again mixes up their gradients."""
    recommender = build_recommender(without_lists(), model={"name": "embedding"})
    step = OuterStep(recommender, optimizer=tf.keras.optimizers.SGD(0.1), tables=tables(), clip_norm=None, dropout=0.0,
                     seed=0)
    keys = iter(range(10))

    @tf.function(input_signature=list(batch_spec()))
    def run(*fields):
        graph = tf.compat.v1.get_default_graph()
        return graph.capture_call_time_value(lambda: tf.constant(next(keys)), tf.TensorSpec([], tf.int32))

    monkeypatch.setattr(step, "function", lambda **_: run)
    assert [int(step(indexed())) for _ in range(3)] == [0, 1, 2]
