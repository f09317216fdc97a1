"""TaNP against the paper's equations, task by task in NumPy."""

import by_hand
import numpy as np
import pytest
import tensorflow as tf
from by_hand import dense, layer_norm, relu, sigmoid, two_tower

from tfmeta.errors import ConfigError
from tfmeta.learners.tanp import Latent, clustering_loss
from tfmeta.models.recommender import build_recommender

OPTIONS = {"name": "tanp", "units": 4, "latent_dim": 2, "decoder_units": [4, 3], "clusters": 3, "alpha": 2.0}


class ByHand:
    """One task's encoder, identity network, pool and decoder."""

    def __init__(self, built, *, gated, unit):
        self.w, self.gated, self.unit = by_hand.weights(built), gated, unit
        self.tau = np.exp(self.w["tanp/log_shrinkage"])

    def rows(self, user, item, target):
        found = []
        for v, y in zip(item, target, strict=True):
            f = two_tower(self.w, user, v)
            excess = y - f if self.unit == "rating" else float(y > 0) - sigmoid(f)
            normed = layer_norm(self.w, "tanp_item_norm", v)
            found.append(np.concatenate([user, normed, [y, excess], excess * normed]))
        return np.stack(found)

    def latent(self, rows):
        r = sum(dense(self.w, "tanp_encoder", x, layers=2) for x in rows) / (len(rows) + self.tau[0])
        hidden = relu(dense(self.w, "tanp_latent_hidden", r))
        return dense(self.w, "tanp_latent_mean", hidden), dense(self.w, "tanp_latent_deviation", hidden) - 2.0

    def identity(self, rows):
        return sum(dense(self.w, "tanp_identity", x, layers=2) for x in rows) / (len(rows) + self.tau[1])

    def assignment(self, t):
        c = np.array([(1 + ((t - a) ** 2).sum() / 2.0) ** (-(2.0 + 1) / 2) for a in self.w["tanp/pool"]])
        return c / c.sum()

    def output(self, user, query, z, t):
        o = t + self.assignment(t) @ self.w["tanp/pool"]
        parts = dense(self.w, "tanp_film", o)
        parts = parts.reshape(4 if self.gated else 2, -1)
        gamma, beta = np.tanh(parts[0]), np.tanh(parts[1])
        if self.gated:
            delta, eta = sigmoid(parts[2]), np.tanh(parts[3])
            gamma, beta = delta * gamma + (1 - delta) * eta, delta * beta + (1 - delta) * eta
        gamma, beta = np.split(1 + gamma, [4]), np.split(beta, [4])
        scores = []
        for v in query:
            normed = layer_norm(self.w, "tanp_item_norm", v)
            h = np.concatenate([user, z, normed])
            for layer in range(2):
                h = layer_norm(self.w, f"tanp_decoder_norm_{layer}", dense(self.w, f"tanp_decoder_{layer}", h))
                h = relu(gamma[layer] * h + beta[layer])
            scores.append(two_tower(self.w, user, v) + h @ self.w["tanp/read_out"]
                          + normed @ (z @ self.w["tanp/bilinear"]))
        return np.array(scores)


@pytest.mark.parametrize("modulation", ["film", "gating"])
@pytest.mark.parametrize("unit", ["rating", "click"])
def test_scores_follow_the_equations(float64, modulation, unit):
    built = by_hand.build({**OPTIONS, "modulation": modulation}, unit=unit)
    (user, item, target, length, query), _ = by_hand.tasks(built, unit=unit)
    hand = ByHand(built, gated=modulation == "gating", unit=unit)
    expected = []
    for b, n in enumerate(length):
        rows = hand.rows(user[b], item[b, :n], target[b, :n])
        expected.append(hand.output(user[b], query[b], hand.latent(rows)[0], hand.identity(rows)))
    np.testing.assert_allclose(by_hand.adapted_output(built, (user, item, target, length, query)), expected, rtol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_loss_is_the_bound(float64, share):
    built = by_hand.build({**OPTIONS, "modulation": "film", "sample": False, "support_share": share, "kl_weight": 0.7,
                           "cluster_weight": 0.3})
    arrays, batch = by_hand.tasks(built)
    user, item, target, length, query = arrays
    query_target, query_length = built.to_target(batch.query_label).numpy(), batch.query_length.numpy()
    hand = ByHand(built, gated=False, unit="rating")
    losses, assignments = [], []
    for b, (n, m) in enumerate(zip(length, query_length, strict=True)):
        support_rows = hand.rows(user[b], item[b, :n], target[b, :n])
        query_rows = hand.rows(user[b], query[b, :m], query_target[b, :m])
        prior, posterior = hand.latent(support_rows), hand.latent(np.concatenate([support_rows, query_rows]))
        t = hand.identity(support_rows)
        error = [((hand.output(user[b], query[b, :m], z, t) - query_target[b, :m]) ** 2).mean()
                 for z in (posterior[0], prior[0])]
        (mp, sp), (mq, sq) = prior, posterior
        kl = (sp - sq + (np.exp(2 * sq) + (mq - mp) ** 2) / (2 * np.exp(2 * sp)) - 0.5).sum()
        losses.append((1 - share) * error[0] + share * error[1] + 0.7 * kl / m)
        assignments.append(hand.assignment(t))
    c = np.stack(assignments)
    d = c ** 2 / c.sum(0)
    d /= d.sum(1, keepdims=True)
    expected = np.array(losses) + 0.3 * (d * np.log(d / c)).sum(1)
    np.testing.assert_allclose(built.batch_loss(batch), expected, rtol=1e-8)


def test_divergence_is_that_of_normal_distributions(float64):
    rng = np.random.default_rng(0)
    mq, mp, sq, sp = rng.normal(size=(4, 1, 1)) * 0.5
    value = Latent(tf.constant(mq), tf.constant(sq)).divergence(Latent(tf.constant(mp), tf.constant(sp))).numpy()
    z = np.linspace(-15, 15, 200_001)

    def density(m, s):
        return np.exp(-0.5 * ((z - m) / np.exp(s)) ** 2 - s) / np.sqrt(2 * np.pi)

    q, p = density(mq[0], sq[0]), density(mp[0], sp[0])
    np.testing.assert_allclose(value, np.trapezoid(q * np.log((q + 1e-300) / (p + 1e-300)), z), rtol=1e-6)


def test_clustering_loss_sharpens_and_never_moves_its_goal(float64):
    logits = tf.Variable(np.random.default_rng(1).normal(size=(6, 3)))
    before = tf.nn.softmax(logits).numpy()
    for _ in range(50):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(clustering_loss(tf.nn.softmax(logits)))
        logits.assign_sub(0.5 * tape.gradient(loss, logits))
    after = tf.nn.softmax(logits).numpy()
    assert (after.max(1) > before.max(1)).mean() > 0.8
    same = tf.constant([[0.25, 0.75], [0.75, 0.25]], tf.float64)
    assert clustering_loss(tf.ones([4, 2], tf.float64) / 2).numpy().max() < 1e-10
    assert (clustering_loss(same).numpy() > 0.01).all()


def test_training_noise_is_a_function_of_the_progress():
    built = by_hand.build(OPTIONS)
    _, batch = by_hand.tasks(built)

    def loss(progress):
        inputs = {"support_item": built.encode_item(batch.support_item), "support_label": batch.support_label,
                  "support_length": batch.support_length, "query_item": built.encode_item(batch.query_item),
                  "query_label": batch.query_label, "query_length": batch.query_length}
        return built.query_loss(built.encode_user(batch.user, tasks=tf.constant(3)), **inputs,
                                progress=progress).numpy()

    np.testing.assert_array_equal(loss(0.25), loss(0.25))
    assert (loss(0.25) != loss(0.2500001)).all()
    arrays, _ = by_hand.tasks(built)
    np.testing.assert_array_equal(by_hand.adapted_output(built, arrays), by_hand.adapted_output(built, arrays))


@pytest.mark.parametrize("options,words", [({"units": 0}, "learner.units"), ({"support_share": 1.5}, "support_share"),
                                           ({"decoder_units": []}, "decoder_units"), ({"alpha": 0.0}, "alpha"),
                                           ({"kl_weight": -1.0}, "kl_weight"), ({"modulation": "gate"}, "modulation")])
def test_values_out_of_range_are_named(options, words):
    with pytest.raises(ConfigError, match=words):
        build_recommender(by_hand.make_spec(), model=by_hand.TOWER, learner={"name": "tanp", **options})
