"""Joint training, fine-tuning and DropoutNet against direct NumPy computations."""

import numpy as np
import pytest
import tensorflow as tf
from learner_cases import encode, scores, task_loss
from recommender_cases import make_batch, make_spec, randomise

from tfmeta.errors import ConfigError
from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.recommender import build_recommender

SMALL = {"name": "two_tower", "embedding_dim": 3, "vector_dim": 4, "user_units": [5], "item_units": [5]}


def build(learner, *, unit="rating", model=SMALL):
    built = build_recommender(make_spec(unit), model=model, learner=learner, seed=2)
    randomise(built)
    return built


def losses(output, target, unit):
    if unit == "rating":
        return (output - target) ** 2
    return np.logaddexp(0.0, output) - target * output


@pytest.mark.parametrize("name", ["joint", "fine_tune"])
@pytest.mark.parametrize("unit", ["rating", "click"])
def test_joint_loss_is_the_mean_over_all_rows_of_a_task(float64, name, unit):
    built, batch = build({"name": name}, unit=unit), make_batch(unit=unit)
    inputs = encode(built, batch)
    user = inputs["user"]
    fast = built.learner.init(user)
    got = task_loss(built, batch).numpy()
    for task in range(5):
        rows, total = 0, 0.0
        for side in ("support", "query"):
            n = int(getattr(batch, f"{side}_length")[task])
            output = built.learner.predict(fast, Query(user, inputs[f"{side}_item"])).output[task, :n].numpy()
            target = built.to_target(getattr(batch, f"{side}_label"))[task, :n].numpy()
            total, rows = total + losses(output, target, unit).sum(), rows + n
        np.testing.assert_allclose(got[task], total / rows, rtol=1e-12)


def test_pairwise_joint_loss_pairs_support_with_query():
    built = build({"name": "joint"}, unit="weight")
    batch = make_batch(unit="weight")
    positives = batch._replace(support_label=tf.ones_like(batch.support_label),
                               query_label=tf.zeros_like(batch.query_label))
    # Neither side alone has a pair of different labels.
    assert (task_loss(built, positives).numpy() > 0).all()


def test_fine_tuning_adapts_as_maml_with_fixed_rates():
    options = {"inner_steps": 4, "inner_learning_rate": 0.03, "shrinkage": 1.5, "clip_norm": 0.7}
    plain = build({"name": "fine_tune", **options})
    maml = build({"name": "maml", "learn_rates": "fixed", **options})
    assert [v.shape for v in plain.trainable_variables] == [v.shape for v in maml.trainable_variables]
    np.testing.assert_array_equal(scores(plain, make_batch())[0], scores(maml, make_batch())[0])


def test_fine_tuning_step_by_hand(float64):
    built, batch = build({"name": "fine_tune", "inner_steps": 1, "inner_learning_rate": 0.1}), make_batch()
    inputs = encode(built, batch)
    adapted = built.learner.adapt(built.learner.init(inputs["user"]), Support(
        user=inputs["user"], item=inputs["support_item"], target=built.to_target(batch.support_label),
        length=batch.support_length))
    offset = built.model.offset.numpy()
    for task in range(5):
        n = int(batch.support_length[task])
        start, item = inputs["user"][task].numpy(), inputs["support_item"][task, :n].numpy()
        features = np.column_stack([item[:, :-1], np.ones(n)])
        residual = features @ start + item[:, -1] + offset - built.to_target(batch.support_label)[task, :n].numpy()
        expected = start - 0.1 * 2 / n * features.T @ residual
        got = np.append(adapted["user_vector"][task], adapted["user_bias"][task])
        np.testing.assert_allclose(got, expected, rtol=1e-11)


def by_hand(built, batch, task, *, dropped, damping):
    """DropoutNet's adapted user vector of one task."""
    inputs = encode(built, batch)
    weights = [v.numpy() for v in built.learner.network.weights]
    user = inputs["user"][task].numpy()

    def vector(preference):
        hidden = np.maximum(np.concatenate([preference, user]) @ weights[0] + weights[1], 0.0)
        return user + hidden @ weights[2] + weights[3]

    n = int(batch.support_length[task])
    item = inputs["support_item"][task, :n].numpy()
    features, offset = np.column_stack([item[:, :-1], np.ones(n)]), item[:, -1] + built.model.offset.numpy()
    target = built.to_target(batch.support_label)[task, :n].numpy()
    output = features @ vector(np.zeros(features.shape[1])) + offset
    if built.feature_spec.label.unit == "rating":
        weight = target - output
    else:
        weight = np.maximum(target, 1.0) * ((target > 0) - 1 / (1 + np.exp(-output)))
    return vector(np.zeros(features.shape[1]) if dropped else features.T @ weight / (n + damping))


@pytest.mark.parametrize("unit", ["rating", "click", "weight"])
def test_dropout_net_by_hand(float64, unit):
    built, batch = build({"name": "dropout_net", "units": 6, "damping": 1.5}, unit=unit), make_batch(unit=unit)
    inputs = encode(built, batch)
    inputs.pop("query_item")
    fast = built.adapt(**inputs)["weights"].numpy()
    base = built.learner.init(inputs["user"])["weights"].numpy()
    for task in range(5):
        np.testing.assert_allclose(fast[task], by_hand(built, batch, task, dropped=False, damping=1.5), rtol=1e-10)
        np.testing.assert_allclose(base[task], by_hand(built, batch, task, dropped=True, damping=1.5), rtol=1e-10)


def test_dropout_net_drops_whole_preferences_at_its_rate_and_by_progress_alone():
    batch = make_batch(tasks=2000)
    always = build({"name": "dropout_net", "units": 6, "preference_dropout": 0.0})
    often = build({"name": "dropout_net", "units": 6, "preference_dropout": 0.3})
    kept = task_loss(always, batch).numpy()
    empty = task_loss(always, batch._replace(support_length=tf.zeros(2000, tf.int32))).numpy()
    mixed = task_loss(often, batch, 0.25).numpy()
    differ = ~np.isclose(kept, empty, rtol=1e-4)
    near = np.isclose(mixed, kept, rtol=1e-5), np.isclose(mixed, empty, rtol=1e-5)
    assert (near[0] | near[1]).all() and differ.mean() > 0.99
    assert abs(near[1][differ].mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    np.testing.assert_array_equal(mixed, task_loss(often, batch, 0.25))
    assert not np.array_equal(mixed, task_loss(often, batch, 0.26))
    # At serving nothing is dropped.
    np.testing.assert_array_equal(scores(often, batch)[0], scores(always, batch)[0])


@pytest.mark.parametrize("learner,message", [
    ({"name": "dropout_net", "scope": "all"}, "closed-form learner requires|linear"),
    ({"name": "dropout_net", "preference_dropout": 1.0}, "preference_dropout"),
    ({"name": "dropout_net", "damping": -1.0}, "damping"),
    ({"name": "fine_tune", "inner_learning_rate": 0.0}, "inner_learning_rate"),
    ({"name": "fine_tune", "inner_loss": "binary_cross_entropy"}, "implicit feedback"),
    ({"name": "joint", "outer_loss": "pairwis"}, "pairwise"),
    ({"name": "joint", "inner_steps": 3}, "inner_steps")])
def test_mistakes_are_named(learner, message):
    with pytest.raises(ConfigError, match=message):
        build_recommender(make_spec(), model=SMALL, learner=learner)
