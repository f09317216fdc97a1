"""Descent by layer outputs is plain descent: values and meta-gradients, in float64."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import MODEL_SCOPES, make_batch, make_spec, randomise

from tfmeta.learners import inner_loop
from tfmeta.models.fast_weights import LowRank, Shared, materialise
from tfmeta.models.recommender import build_recommender

LAYERED = [("two_tower", "all"), ("embedding", "head"), ("embedding", "all")]


def build(model, scope, **learner):
    units = {"two_tower": {"user_units": [7], "item_units": [6, 5]}, "embedding": {"units": [7, 6]}}[model]
    built = build_recommender(make_spec(), model={"name": model, "embedding_dim": 3, "use_item_id": True, **units},
                              learner={"inner_steps": 3, **learner, "scope": scope})
    randomise(built)
    return built


def value_and_gradients(built, batch):
    with tf.GradientTape() as tape:
        loss = built.batch_loss(batch)
        total = tf.reduce_sum(loss)
    gradients = tape.gradient(total, [v.value for v in built.trainable_variables])
    return loss.numpy(), [tf.convert_to_tensor(g).numpy() for g in gradients]


def descent_cases():
    """The whole product; the fast suite has the third of it in which every two values of two options still meet."""
    options = (LAYERED, ["fixed", "per_weight", "per_element"], [(1, 3), (1000, 3), (1, 1)], [None, 0.3], [False, True])
    for place in itertools.product(*(range(len(values)) for values in options)):
        (model, scope), learn_rates, (width, steps), clip_norm, first_order = (
            values[i] for values, i in zip(options, place, strict=True))
        yield pytest.param(model, scope, learn_rates, width, steps, clip_norm, first_order,
                           marks=() if sum(place[:3]) % 3 == 0 else pytest.mark.slow)


@pytest.mark.parametrize("model,scope,learn_rates,low_rank_width,steps,clip_norm,first_order", descent_cases())
def test_layered_descent_is_plain_descent(float64, monkeypatch, model, scope, first_order, clip_norm, learn_rates,
                                          low_rank_width, steps):
    monkeypatch.setattr(inner_loop, "_LOW_RANK_WIDTH", low_rank_width)
    built = build(model, scope, first_order=first_order, clip_norm=clip_norm, learn_rates=learn_rates,
                  inner_learning_rate=0.02, shrinkage=2.0, inner_steps=steps)
    batch = make_batch(seed=3)
    fast = value_and_gradients(built, batch)
    monkeypatch.setattr(inner_loop, "descend", inner_loop.plain_descend)
    monkeypatch.setattr("tfmeta.learners.maml.descend", inner_loop.plain_descend)
    plain = value_and_gradients(built, batch)
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-11)
    for variable, left, right in zip(built.trainable_variables, fast[1], plain[1], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-12, err_msg=variable.path)


@pytest.mark.parametrize("model,scope", LAYERED)
def test_materialised_weights_score_alike(float64, monkeypatch, model, scope):
    monkeypatch.setattr(inner_loop, "_LOW_RANK_WIDTH", 1)
    built = build(model, scope)
    batch = make_batch()
    user = built.encode_user(batch.user, tasks=tf.constant(5))
    fast = built.adapt(user, support_item=built.encode_item(batch.support_item), support_label=batch.support_label,
                       support_length=batch.support_length)
    assert any(isinstance(w, LowRank) for w in fast.values())
    query = built.encode_item(batch.query_item)
    plain = materialise(fast, tasks=tf.constant(5))
    assert all(w.shape[0] == 5 for w in plain.values())
    np.testing.assert_allclose(built.model.apply(plain, user, query), built.model.apply(fast, user, query), rtol=1e-11)


@pytest.mark.parametrize("model,scope", LAYERED)
def test_unadapted_weights_are_shared_and_never_repeated(model, scope):
    built = build(model, scope)
    fast = built.learner.init(tf.zeros([2, 3]))
    assert all(isinstance(w, Shared) for w in fast.values())


@pytest.mark.parametrize("model,scope", MODEL_SCOPES)
def test_users_or_items_without_features(model, scope):
    spec = make_spec()
    batch = make_batch()
    for empty in ("user", "item"):
        bare = type(spec)(label=spec.label, user_id=spec.user_id, item_id=spec.item_id,
                          user_features=() if empty == "user" else spec.user_features,
                          item_features=() if empty == "item" else spec.item_features)
        built = build_recommender(bare, model={"name": model, "use_item_id": empty == "item"},
                                  learner={"scope": scope})
        only_id = {"item_id"} if empty == "item" else set(batch.query_item)
        part = batch._replace(user={} if empty == "user" else batch.user,
                              support_item={k: v for k, v in batch.support_item.items() if k in only_id},
                              query_item={k: v for k, v in batch.query_item.items() if k in only_id})
        # A graph fuses products, and has failed where eager did not.
        for call in (built, tf.function(built.__call__, autograph=False)):
            found = call(part)
            assert np.isfinite(found).all() and found.shape == (5, 4)
