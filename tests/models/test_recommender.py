"""Invariances that hold for every model and scope."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import MODEL_SCOPES, make_batch, make_spec, randomise

from tfmeta.data.task_batch import TaskBatch
from tfmeta.errors import ConfigError
from tfmeta.models.recommender import Recommender, build_recommender

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module", params=MODEL_SCOPES, ids=lambda p: "-".join(p))
def recommender(request):
    model, scope = request.param
    built = build_recommender(make_spec(), model={"name": model, "embedding_dim": 4}, seed=3,
                              learner={"name": "maml", "scope": scope, "inner_steps": 3, "shrinkage": 2.0})
    randomise(built)
    return built


def scores(recommender, batch):
    user = recommender.encode_user(batch.user, tasks=tf.shape(batch.query_length)[0])
    return recommender.adapt_and_score(
        user, support_item=recommender.encode_item(batch.support_item), support_label=batch.support_label,
        support_length=batch.support_length, query_item=recommender.encode_item(batch.query_item))


def rows(batch, index):
    return tf.nest.map_structure(lambda t: tf.gather(t, index), batch)


def test_adaptation_changes_scores(recommender):
    adapted, base = scores(recommender, make_batch())
    assert np.abs(adapted - base).min(axis=1).max() > 1e-3
    assert np.isfinite(adapted).all()


def test_unadapted_scores_are_the_plain_models(recommender):
    batch = make_batch()
    _, base = scores(recommender, batch)
    plain = recommender.to_score(recommender.model((batch.user, batch.query_item)))
    np.testing.assert_array_equal(base, plain)


def test_empty_support_equals_base_bit_for_bit(recommender):
    batch = make_batch()._replace(support_length=tf.zeros(5, tf.int32))
    adapted, base = scores(recommender, batch)
    np.testing.assert_array_equal(adapted, base)


def test_padding_never_changes_a_result(recommender):
    batch = make_batch()
    mask = tf.sequence_mask(batch.support_length, 6).numpy()
    wild = dict(batch.support_item)
    wild["vector"] = tf.where(mask[..., None], batch.support_item["vector"], np.nan)
    wild["item_id"] = tf.where(mask, batch.support_item["item_id"], 0)
    dirty = batch._replace(support_item=wild, support_label=tf.where(mask, batch.support_label, np.nan))
    np.testing.assert_array_equal(scores(recommender, dirty)[0], scores(recommender, batch)[0])
    # More padding: the values agree to rounding, since products of another width may sum in another order.
    wider = batch._replace(
        support_item={k: tf.concat([v, v], 1) for k, v in batch.support_item.items()},
        support_label=tf.concat([batch.support_label, np.full((5, 6), np.inf, np.float32)], 1))
    np.testing.assert_allclose(scores(recommender, wider)[0], scores(recommender, batch)[0], rtol=1e-5, atol=1e-5)


def test_padding_has_no_gradient(recommender):
    batch = make_batch()

    def gradients(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(recommender.batch_loss(batch))
        values = [v.value for v in recommender.trainable_variables]
        return [g if g is None else tf.convert_to_tensor(g) for g in tape.gradient(loss, values)]

    support = tf.sequence_mask(batch.support_length, 6)
    query = tf.sequence_mask(batch.query_length, 4)
    dirty = batch._replace(support_label=tf.where(support, batch.support_label, np.nan),
                           query_label=tf.where(query, batch.query_label, np.nan))
    for clean_g, dirty_g in zip(gradients(batch), gradients(dirty), strict=True):
        assert clean_g is not None
        np.testing.assert_array_equal(clean_g, dirty_g)


def test_order_of_the_support_does_not_matter(recommender):
    batch = make_batch()._replace(support_length=tf.fill([5], 6))
    order = np.random.default_rng(1).permutation(6)
    shuffled = batch._replace(support_item={k: tf.gather(v, order, axis=1) for k, v in batch.support_item.items()},
                              support_label=tf.gather(batch.support_label, order, axis=1))
    np.testing.assert_allclose(scores(recommender, shuffled)[0], scores(recommender, batch)[0], rtol=1e-4, atol=1e-5)


def test_tasks_do_not_see_each_other(recommender):
    batch = make_batch()
    whole = scores(recommender, batch)[0].numpy()
    for row in range(5):
        alone = scores(recommender, rows(batch, [row]))[0].numpy()
        np.testing.assert_allclose(alone[0], whole[row], rtol=1e-5, atol=1e-5)


def test_a_task_that_diverges_keeps_its_base_scores(recommender):
    batch = make_batch()
    label = batch.support_label.numpy()
    label[2] = np.inf
    adapted, base = scores(recommender, batch._replace(support_label=tf.constant(label)))
    clean = scores(recommender, batch)[0].numpy()
    assert np.isfinite(adapted).all()
    np.testing.assert_array_equal(adapted[2], base[2])
    np.testing.assert_array_equal(np.delete(adapted, 2, 0), np.delete(clean, 2, 0))


def test_gradient_reaches_every_slow_weight(recommender):
    batch = make_batch(tasks=16)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(recommender.batch_loss(batch))
    for variable, gradient in zip(recommender.trainable_variables,
                                  tape.gradient(loss, [v.value for v in recommender.trainable_variables]),
                                  strict=True):
        assert gradient is not None, variable.path
        assert np.abs(tf.convert_to_tensor(gradient)).sum() > 0, variable.path


def test_graph_equals_eager(recommender):
    batch = make_batch()
    graph = tf.function(lambda b: scores(recommender, b), autograph=False)
    np.testing.assert_allclose(graph(batch)[0], scores(recommender, batch)[0], rtol=1e-5, atol=1e-5)


def test_config_round_trip(recommender):
    config = json.loads(json.dumps(recommender.get_config()))
    again = Recommender.from_config(config)
    assert again.get_config() == recommender.get_config()
    assert [v.path for v in again.trainable_variables] == [v.path for v in recommender.trainable_variables]
    again.set_weights(recommender.get_weights())
    batch = make_batch()
    np.testing.assert_array_equal(scores(again, batch)[0], scores(recommender, batch)[0])


def test_item_out_of_the_vocabulary_is_its_content(recommender):
    features = {k: v[:, :1] for k, v in make_batch().query_item.items()}
    missing, unknown = (recommender.encode_item({**features, "item_id": tf.fill([5, 1], i)}) for i in (0, 1))
    np.testing.assert_array_equal(missing, unknown)


def test_initial_values_depend_on_the_seed_alone():
    first, second, other = (build_recommender(make_spec(), seed=s) for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
    assert any((a != b).any() for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("unit,low,high", [("click", 0, 1), ("weight", -np.inf, np.inf)])
def test_implicit_units(unit, low, high):
    built = build_recommender(make_spec(unit))
    batch = make_batch(unit=unit)
    adapted, _ = scores(built, batch)
    assert (adapted.numpy() >= low).all() and (adapted.numpy() <= high).all()
    assert np.isfinite(built.batch_loss(batch)).all()


@pytest.mark.parametrize("learner,score_unit", [
    ({"name": "ridge"}, "probability"), ({"name": "ridge", "outer_loss": "binary_cross_entropy"}, "probability"),
    ({"name": "maml", "outer_loss": "pairwise"}, "preference"),
    ({"name": "ridge", "outer_loss": "squared_error"}, "preference")])
def test_scores_of_clicks_are_probabilities_only_where_the_loss_makes_them(learner, score_unit):
    built = build_recommender(make_spec("click"), learner=learner)
    assert built.learner.score_unit == score_unit
    output = tf.constant([[40.0, 41.0, -3.0]])
    found = built.to_score(output).numpy()
    # Outputs whose level no loss holds are not pressed into [0, 1], where many would be one number.
    np.testing.assert_array_equal(found, output if score_unit == "preference" else tf.sigmoid(output))


@pytest.mark.parametrize("unit,score_unit", [("rating", "rating"), ("weight", "preference")])
def test_score_units_of_other_labels(unit, score_unit):
    for loss in ("pairwise", None):
        assert build_recommender(make_spec(unit), learner={"name": "ridge", "outer_loss": loss}).learner.score_unit \
            == score_unit


def test_mixed_precision_stays_close():
    previous = keras.config.dtype_policy()
    plain = build_recommender(make_spec(), seed=1)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_recommender(make_spec(), seed=1)
    finally:
        keras.config.set_dtype_policy(previous)
    batch = make_batch()
    adapted = scores(mixed, batch)[0]
    assert adapted.dtype == tf.float32
    assert all(v.dtype == "float32" for v in mixed.trainable_variables)
    np.testing.assert_allclose(adapted, scores(plain, batch)[0], atol=0.1)


@pytest.mark.parametrize("options,message", [
    ({"model": {"name": "two_towers"}}, "two_tower"),
    ({"model": {"vector_dims": 3}}, "Did you mean 'vector_dim'"),
    ({"model": {"vector_dim": 0}}, "at least 1, received 0"),
    ({"model": {"similarity": "euclid"}}, "'dot' or 'cosine'"),
    ({"learner": {"scope": "head"}}, "requires one of user_vector, context, low_rank, body, all, received 'head'"),
    ({"learner": {"inner_steps": -1}}, "0 or more, received -1"),
    ({"learner": {"inner_steps": "three"}}, "requires int, received 'three'"),
    ({"learner": {"learn_rates": "yes"}}, "fixed, per_weight, per_element"),
    ({"learner": {"outer_loss": "squared"}}, "squared_error"),
    ({"learner": {"inner_loss": "binary_cross_entropy"}}, "requires implicit feedback"),
])
def test_bad_options_say_what_is_wrong(options, message):
    with pytest.raises(ConfigError, match=message):
        build_recommender(make_spec(), **options)


def test_users_without_features():
    spec = make_spec()
    bare = type(spec)(label=spec.label, user_id=spec.user_id, item_id=spec.item_id)
    for model in ("two_tower", "embedding"):
        built = build_recommender(bare, model={"name": model, "use_item_id": True})
        batch = make_batch()
        only_id = TaskBatch(**{**batch._asdict(), "user": {},
                               "support_item": {"item_id": batch.support_item["item_id"]},
                               "query_item": {"item_id": batch.query_item["item_id"]}})
        assert scores(built, only_id)[0].shape == (5, 4)
