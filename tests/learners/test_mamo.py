"""MAMO against the paper's equations; the local update by finite differences."""

import by_hand
import numpy as np
import pytest
import tensorflow as tf
from by_hand import dense, relu, softmax, two_tower

from tfmeta.errors import ConfigError
from tfmeta.models.recommender import build_recommender

OPTIONS = {"name": "mamo", "memories": 3, "preference_dim": 2, "units": [3], "inner_steps": 1, "shrinkage": 2.0}
KEYS = ("user", "preference", "mamo_decision_0_kernel", "mamo_decision_0_bias", "mamo_decision_1_kernel",
        "mamo_decision_1_bias")


def start(w, user):
    """What the memories give one user."""
    profile = np.append(user, 1.0)
    cosine = [profile @ m / np.linalg.norm(profile) / np.linalg.norm(m) for m in w["mamo/profile_memory"]]
    attention = softmax(np.exp(w["mamo/log_sharpness"]) * np.array(cosine))
    return {"user": user - attention @ w["mamo/user_memory"],
            "preference": sum(a * m for a, m in zip(attention, w["mamo/preference_memory"], strict=True)),
            **{key: w[f"mamo_decision/{key}"] for key in KEYS[2:]}}


def output(w, fast, items):
    scores = []
    for v in items:
        both = np.concatenate([dense(w, "mamo_user_projection", fast["user"]), dense(w, "mamo_item_projection", v)])
        e = fast["preference"] @ both
        e = np.where(e > 0, e, 0.01 * e)
        h = relu(e @ fast[KEYS[2]] + fast[KEYS[3]])
        scores.append(two_tower(w, fast["user"], v) + (h @ fast[KEYS[4]] + fast[KEYS[5]])[0])
    return np.array(scores)


def local_update(w, fast, items, target):
    """One step by central differences of the mean squared error."""
    n, moved = len(items), {}
    for key, value in fast.items():
        gradient = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                shifted = value.copy()
                shifted[index] += sign * 1e-6
                sides.append(((output(w, {**fast, key: shifted}, items) - target) ** 2).mean())
            gradient[index] = (sides[0] - sides[1]) / 2e-6
        moved[key] = value - np.exp(w[f"mamo/log_inner_rate_{key}"]) * n / (n + 2.0) * gradient
    return moved


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_scores_follow_the_equations(float64, steps):
    built = by_hand.build({**OPTIONS, "inner_steps": steps})
    arrays, _ = by_hand.tasks(built)
    user, item, target, length, query = arrays
    w = by_hand.weights(built)
    expected = []
    for b, n in enumerate(length):
        fast = start(w, user[b])
        for _ in range(steps):
            fast = local_update(w, fast, item[b, :n], target[b, :n])
        expected.append(output(w, fast, query[b]))
    np.testing.assert_allclose(by_hand.adapted_output(built, arrays), expected, rtol=1e-6)


def test_attention_is_a_softmax_of_cosines(float64):
    built = by_hand.build(OPTIONS)
    (user, *_), _ = by_hand.tasks(built)
    attention = built.learner.attention(tf.constant(user)).numpy()
    np.testing.assert_allclose(attention.sum(1), 1.0)
    closest = built.learner.profile_memory.numpy()[:, :-1] / built.learner.profile_memory.numpy()[:, -1:]
    own = built.learner.attention(tf.constant(closest)).numpy()
    # A profile parallel to a memory row attends to it the most, an antiparallel one the least.
    extreme = np.where(built.learner.profile_memory.numpy()[:, -1] > 0, own.argmax(1), own.argmin(1))
    np.testing.assert_array_equal(extreme, np.arange(3))


def test_first_order_differs_in_the_outer_gradient_alone(float64):
    second, first = (by_hand.build({**OPTIONS, "first_order": f}) for f in (False, True))
    _, batch = by_hand.tasks(second)
    gradients = []
    for built in (second, first):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(built.batch_loss(batch))
        gradients.append((loss.numpy(), tape.gradient(loss, built.learner.preference_memory.value).numpy()))
    np.testing.assert_allclose(gradients[0][0], gradients[1][0], rtol=1e-13)
    assert np.abs(gradients[0][1] - gradients[1][1]).max() > 1e-4


def test_users_without_features_share_one_profile():
    spec = by_hand.make_spec()
    bare = type(spec)(label=spec.label, user_id=spec.user_id, item_id=spec.item_id, user_features=(),
                      item_features=spec.item_features)
    built = build_recommender(bare, model={"name": "embedding", "embedding_dim": 2, "units": [3]}, learner=OPTIONS)
    batch = by_hand.make_batch()._replace(user={})
    assert np.isfinite(tf.function(built.__call__, autograph=False)(batch)).all()


@pytest.mark.parametrize("options,words", [({"memories": 0}, "learner.memories"), ({"units": [0]}, "learner.units"),
                                           ({"inner_learning_rate": 0.0}, "inner_learning_rate"),
                                           ({"shrinkage": -1.0}, "learner.shrinkage")])
def test_values_out_of_range_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        build_recommender(by_hand.make_spec(), model=by_hand.TOWER, learner={**OPTIONS, **options})
