"""LWA and NLBA against the paper's equations on hand-computed tasks."""

import by_hand
import numpy as np
import pytest
import tensorflow as tf
from by_hand import layer_norm, relu, two_tower

from tfmeta.data.label import Label
from tfmeta.errors import ConfigError
from tfmeta.learners.class_means import ClassMeans
from tfmeta.learners.task_tensors import Support
from tfmeta.models.recommender import build_recommender

PAPER = {"name": "lwa", "shrinkage": 0.0, "per_dimension": False, "adapt_bias": False}


def support_of(target, values, length):
    return Support(user=tf.zeros([len(target), 1]), item=tf.constant(values), target=tf.constant(target),
                   length=tf.constant(length))


def sums_of(values):
    return lambda share: tf.linalg.matmul(share, values)


def test_class_means_of_a_hand_computed_case(float64):
    """Ratings 5, 2, 4 (and one of padding) with a threshold of 4: two positives, one negative."""
    label = Label("rating", mean=3.0, std=2.0, threshold=4.0)
    values = np.array([[[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [1e30, 9.0]]])
    target = (np.array([[5.0, 2.0, 4.0, 5.0]]) - 3.0) / 2.0
    plain = ClassMeans(label, boundaries=None, shrinkage=0.0)
    means, shares = plain.summarise(sums_of(values), support_of(target, values, [3]))
    np.testing.assert_allclose(means, [[[0.0, 2.0], [2.0, 2.0]]])
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3]])
    damped = ClassMeans(label, boundaries=None, shrinkage=2.0)
    means, shares = damped.summarise(sums_of(values), support_of(target, values, [3]))
    np.testing.assert_allclose(means, [[[0.0, 2 / 3], [1.0, 1.0]]])
    np.testing.assert_allclose(shares, [[1 / 5, 2 / 5]])
    means, shares = plain.summarise(sums_of(values), support_of(target, values, [0]))
    assert not means.numpy().any() and not shares.numpy().any()


@pytest.mark.parametrize("mean,std", [(0.0, 1.0), (3.581564, 1.117102), (3.52, 0.7)])
def test_a_label_on_a_boundary_is_above_it(mean, std):
    label = Label("rating", mean=mean, std=std)
    layer = ClassMeans(label, boundaries=(2.0, 3.0, 4.0, 5.0), shrinkage=0.0)
    rating = tf.constant([[1.0, 2.0, 3.0, 4.0, 5.0]])
    means, _ = layer.summarise(sums_of(tf.eye(5)[None]), support_of((rating - mean) / std, tf.eye(5)[None], [5]))
    np.testing.assert_array_equal(means[0], np.eye(5))


def test_lwa_is_the_papers(float64):
    """output = F(v) . (w_0 R_0 + w_1 R_1) + b, beside the unadapted model."""
    built = by_hand.build(PAPER)
    arrays, _ = by_hand.tasks(built)
    user, item, target, length, query = arrays
    w = by_hand.weights(built)
    rating = target * 1.1 + 3.4
    expected = []
    for b, n in enumerate(length):
        representation = np.concatenate([item[b, :n, :-1], np.ones((n, 1))], axis=1)
        combination = np.zeros(4)
        for positive in (False, True):
            chosen = (rating[b, :n] >= 4 - 1e-9) == positive
            if chosen.any():
                combination += w["lwa/class_factors"][int(positive), 0] * representation[chosen].mean(0)
        expected.append([two_tower(w, user[b], v) + np.append(v[:-1], 1) @ combination for v in query[b]])
    np.testing.assert_allclose(by_hand.adapted_output(built, arrays), expected, rtol=1e-10)


def test_lwa_with_several_classes_factors_and_bias(float64):
    built = by_hand.build({"name": "lwa", "boundaries": [2.5, 4.0]})
    arrays, _ = by_hand.tasks(built)
    user, item, target, length, query = arrays
    w = by_hand.weights(built)
    tau = np.exp(w["class_means/log_shrinkage"])
    expected = []
    for b, n in enumerate(length):
        number = np.searchsorted([2.5 - 1e-6, 4.0 - 1e-6], target[b, :n] * 1.1 + 3.4, side="right")
        move, bias = np.zeros(4), 0.0
        for c in range(3):
            rows = np.concatenate([item[b, :n, :-1], np.ones((n, 1))], axis=1)[number == c]
            move += w["lwa/class_factors"][c] * rows.sum(0) / (len(rows) + tau[c])
            bias += w["lwa/class_bias"][c] * len(rows) / (n + tau[3])
        expected.append([two_tower(w, user[b], v) + np.append(v[:-1], 1) @ move + bias for v in query[b]])
    np.testing.assert_allclose(by_hand.adapted_output(built, arrays), expected, rtol=1e-10)


EMBEDDING = {"name": "embedding", "embedding_dim": 2, "units": [4], "use_item_id": True}


def test_nlba_is_the_papers(float64):
    """h = relu(W x + b_1 + V_0 R_0 + V_1 R_1), output = w . h + b_2 + v_0 . R_0 + v_1 . R_1."""
    built = by_hand.build({"name": "nlba", "shrinkage": 0.0}, model=EMBEDDING)
    arrays, _ = by_hand.tasks(built)
    user, item, target, length, query = arrays
    w = by_hand.weights(built)
    rating = target * 1.1 + 3.4
    expected = []
    for b, n in enumerate(length):
        normed = layer_norm(w, "nlba_item_norm", item[b, :n])
        hidden, out = (w[f"decision/decision_{layer}_bias"].copy() for layer in range(2))
        for c in range(2):
            rows = normed[(rating[b, :n] >= 4 - 1e-9) == bool(c)]
            if len(rows):
                history = np.concatenate([rows.mean(0), [1.0, len(rows) / n]])
                hidden = hidden + history @ w["nlba/history_to_decision_0_bias"][c]
                out = out + history @ w["nlba/history_to_decision_1_bias"][c]
        expected.append([relu(np.concatenate([user[b], v]) @ w["decision/decision_0_kernel"] + hidden)
                         @ w["decision/decision_1_kernel"] + out for v in query[b]])
    np.testing.assert_allclose(by_hand.adapted_output(built, arrays), np.squeeze(expected, -1), rtol=1e-10)


def test_nlba_moves_biases_alone():
    built = by_hand.build({"name": "nlba", "scope": "all"})
    fast = built.learner.init(tf.zeros([2, built.learner.model.user_encoder.width]))
    assert set(fast) == {f"{side}_tower_{layer}_bias" for side in ("user", "item") for layer in range(2)}


@pytest.mark.parametrize("name,model", [("lwa", by_hand.TOWER), ("nlba", EMBEDDING)])
@pytest.mark.parametrize("boundaries", [[], [4.0, 3.0], [1.0], [2.0, 6.0]])
def test_boundaries_out_of_range_are_named(name, model, boundaries):
    with pytest.raises(ConfigError, match=r"learner\.boundaries"):
        build_recommender(by_hand.make_spec(), model=model, learner={"name": name, "boundaries": boundaries})


def test_a_model_without_the_head_is_refused():
    with pytest.raises(ConfigError, match="user_vector"):
        build_recommender(by_hand.make_spec(), model=EMBEDDING, learner={"name": "lwa"})
    with pytest.raises(ConfigError, match=r"dense layers adapt.*scope 'user_vector'"):
        build_recommender(by_hand.make_spec(), model=by_hand.TOWER, learner={"name": "nlba", "scope": "user_vector"})
