"""The Bayesian head against textbook formulas in float64."""

import numpy as np
import pytest
import tensorflow as tf
from learner_cases import TWO_TOWER, Family, check_meta_gradient, encode, task_loss, train
from recommender_cases import make_batch, make_spec, randomise

from tfmeta.errors import ConfigError
from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.recommender import build_recommender

COVARIANCES = ["diagonal", "low_rank", "full"]


def build(unit="rating", spec=None, **options):
    built = build_recommender(spec or make_spec(unit), model=TWO_TOWER, learner={"name": "bayesian", **options})
    return built


def tasks(recommender, batch):
    """Encoded support and query of a batch."""
    inputs = encode(recommender, batch)
    support = recommender.make_support(inputs["user"], inputs["support_item"], batch.support_label,
                                       batch.support_length)
    return support, Query(user=inputs["user"], item=inputs["query_item"])


def by_hand(recommender, support, query, task):
    """Predictive mean and variance of one task, in the precision form of the textbooks."""
    model, learner = recommender.model, recommender.learner
    factor = learner.prior_factor().numpy()
    n = int(support.length[task])
    features, offset = (t.numpy()[task, :n] for t in model.linear(support.user, support.item))
    prior = model.linear_prior(support.user).numpy()[task]
    noise = float(learner.noise()) ** 2
    covariance = np.linalg.inv(np.linalg.inv(factor.T @ factor) + features.T @ features / noise)
    residual = support.target.numpy()[task, :n] - offset - features @ prior
    mean = prior + covariance @ features.T @ residual / noise
    queried, shift = (t.numpy()[task] for t in model.linear(query.user, query.item))
    return queried @ mean + shift, np.einsum("qp,pr,qr->q", queried, covariance, queried) + noise, mean, covariance


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("rows", [3, 11])
def test_posterior_and_prediction_are_the_textbook_ones(float64, covariance, rows):
    built = build(covariance=covariance)
    randomise(built, scale=0.4)
    support, query = tasks(built, make_batch(support=rows))
    fast = built.learner.adapt(built.learner.init(support.user), support)
    prediction = built.learner.predict(fast, query)
    for task in range(5):
        output, variance, mean, posterior = by_hand(built, support, query, task)
        factor = fast["factor"].numpy()[task]
        # The model's layers compute in float64, the features arrive in float32.
        np.testing.assert_allclose(fast["mean"][task], mean, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(factor.T @ factor, posterior, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(prediction.output[task], output, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(prediction.variance[task], variance, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_one_support_after_the_other_is_both_at_once(float64, covariance):
    built = build(covariance=covariance)
    randomise(built, scale=0.4)
    support, query = tasks(built, make_batch(support=9)._replace(support_length=tf.fill([5], 9)))
    learner = built.learner
    whole = learner.adapt(learner.init(support.user), support)
    split = learner.init(support.user)
    for part in (slice(0, 2), slice(2, 8), slice(8, 9)):
        split = learner.adapt(split, Support(support.user, support.item[:, part], support.target[:, part],
                                             tf.fill([5], part.stop - part.start)))
    once, piecewise = learner.predict(whole, query), learner.predict(split, query)
    np.testing.assert_allclose(once.output, piecewise.output, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(once.variance, piecewise.variance, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("unit", ["rating", "click"])
def test_support_lowers_the_variance(unit):
    built = build(unit)
    randomise(built, scale=0.5)
    support, query = tasks(built, make_batch(unit=unit)._replace(support_length=tf.fill([5], 6)))
    found = []
    for length in range(7):
        fast = built.learner.adapt(built.learner.init(support.user), support._replace(length=tf.fill([5], length)))
        found.append(built.learner.predict(fast, query).variance.numpy())
    for before, after in zip(found[:1] * 6 if unit == "click" else found, found[1:], strict=False):
        # A further click may move the mode to where older ones say less, so only the prior bounds Laplace's variance.
        assert (after <= before * (1 + 1e-5)).all()
    assert found[-1].mean() < 0.9 * found[0].mean()


def test_outer_loss_is_the_negative_log_likelihood(float64):
    import scipy.stats

    built = build()
    randomise(built, scale=0.4)
    batch = make_batch()
    support, query = tasks(built, batch)
    target = built.to_target(batch.query_label).numpy()
    expected = []
    for task, n in enumerate(batch.query_length.numpy()):
        output, variance, _, _ = by_hand(built, support, query, task)
        expected.append(-scipy.stats.norm.logpdf(target[task, :n], output[:n], np.sqrt(variance[:n])).mean())
    np.testing.assert_allclose(task_loss(built, batch), expected, rtol=1e-8)


def test_with_a_squared_inner_loss_clicks_are_regressed_on_as_ratings_are(float64):
    built = build("click", inner_loss="squared_error", outer_loss="softmax")
    randomise(built, scale=0.4)
    assert built.learner.has_index and not build("click").learner.has_index
    support, query = tasks(built, make_batch(unit="click", support=8))
    prediction = built.learner.predict(built.learner.adapt(built.learner.init(support.user), support), query)
    for task in range(5):
        output, variance, *_ = by_hand(built, support, query, task)
        np.testing.assert_allclose(prediction.output[task], output, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(prediction.variance[task], variance, rtol=1e-9, atol=1e-11)


def test_the_outer_loss_of_clicks_that_are_regressed_on_is_their_units(float64):
    built = build("click", inner_loss="squared_error")
    randomise(built, scale=0.4)
    batch = make_batch(unit="click")
    support, query = tasks(built, batch)
    output = built.learner.predict(built.learner.adapt(built.learner.init(support.user), support), query).output
    label, n = batch.query_label.numpy(), batch.query_length.numpy()
    expected = [np.logaddexp(0, np.where(label[t, :n[t]] > 0, -1, 1) * output.numpy()[t, :n[t]]).mean()
                for t in range(5)]
    np.testing.assert_allclose(task_loss(built, batch), expected, rtol=1e-9)


def test_laplace_is_the_mode_and_the_curvature_there(float64):
    import scipy.optimize

    built = build("click", newton_steps=25, covariance="full")
    randomise(built, scale=0.4)
    support, query = tasks(built, make_batch(unit="click", support=8))
    prior_factor = built.learner.prior_factor().numpy()
    precision = np.linalg.inv(prior_factor.T @ prior_factor)
    fast = built.learner.adapt(built.learner.init(support.user), support)
    prediction = built.learner.predict(fast, query)
    for task in range(5):
        n = int(support.length[task])
        features, offset = (t.numpy()[task, :n] for t in built.model.linear(support.user, support.item))
        prior = built.model.linear_prior(support.user).numpy()[task]
        target = support.target.numpy()[task, :n]

        def loss(w, features=features, offset=offset, target=target, prior=prior):
            logit = np.where(target > 0, 1, -1) * (features @ w + offset)
            return np.logaddexp(0, -logit).sum() + 0.5 * (w - prior) @ precision @ (w - prior)

        mode = scipy.optimize.minimize(loss, prior, options={"gtol": 1e-9}).x
        chance = 1 / (1 + np.exp(-features @ mode - offset))
        covariance = np.linalg.inv(precision + features.T * (chance * (1 - chance)) @ features)
        np.testing.assert_allclose(fast["mean"][task], mode, atol=1e-5)
        factor = fast["factor"].numpy()[task]
        np.testing.assert_allclose(factor.T @ factor, covariance, rtol=1e-4, atol=1e-5)
        queried, shift = (t.numpy()[task] for t in built.model.linear(query.user, query.item))
        spread = np.einsum("qp,pr,qr->q", queried, covariance, queried)
        np.testing.assert_allclose(prediction.variance[task], spread, rtol=1e-4)
        np.testing.assert_allclose(prediction.output[task], (queried @ mode + shift) / np.sqrt(1 + np.pi / 8 * spread),
                                   rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit,options", [("rating", {"covariance": "full"}), ("rating", {"covariance": "low_rank"}),
                                          ("click", {"covariance": "diagonal", "newton_steps": 3})])
def test_meta_gradient_is_the_finite_difference(float64, unit, options):
    built = build(unit, **options)
    randomise(built, seed=5)
    batch = make_batch(unit=unit, seed=7)
    check_meta_gradient(built, batch)


def test_variance_is_calibrated_and_worth_more_than_a_constant_one():
    """On a linear-Gaussian family whose true noise and prior are known."""
    family = Family()
    built = build_recommender(family.spec, seed=3, learner={"name": "bayesian", "covariance": "full"},
                              model={**TWO_TOWER, "use_item_id": False, "item_units": []})
    train(built, family, steps=300, rate=0.01)
    gains, scaled = [], []
    for length in (1, 2, 4, 20):
        batch = family.draw(1000, np.random.default_rng(5), length=length)
        support, query = tasks(built, batch)
        learner = built.learner
        prediction = learner.predict(learner.adapt(learner.init(support.user), support), query)
        mean, variance = (t.numpy().astype(np.float64) for t in (prediction.output, prediction.variance))
        error = built.to_target(batch.query_label).numpy() - mean
        scaled.append(np.square(error) / variance)
        # The best constant variance in hindsight, of all predictions with that support size.
        constant = np.square(error).mean()
        gains.append((0.5 * (np.log(constant) + 1)) - 0.5 * (np.log(variance) + scaled[-1]).mean())
    assert gains[0] > 0.05 and min(gains) > -0.01, gains
    for values in scaled:
        assert 0.85 < values.mean() < 1.15
        assert 0.92 < (values < 1.96 ** 2).mean() < 0.975


def test_float32_survives_extreme_labels_and_features():
    built = build()
    batch = make_batch()
    label = batch.support_label.numpy()
    label[0, 0], label[1, 0], label[2, 0] = 3e38, np.inf, np.nan
    batch = batch._replace(support_label=tf.constant(label), support_length=tf.fill([5], 6))
    support, query = tasks(built, batch)
    fast = built.learner.adapt(built.learner.init(support.user), support)
    assert all(np.isfinite(v).all() for v in fast.values())
    assert np.isfinite(built.learner.predict(fast, query).output).all()


@pytest.mark.parametrize("options,message", [
    ({"covariance": "dense"}, "covariance"), ({"rank": 0}, "rank"), ({"initial_noise": 0.0}, "initial_noise"),
    ({"initial_scale": -1.0}, "initial_scale"), ({"newton_steps": 0}, "newton_steps"),
    ({"outer_loss": "binary_cross_entropy"}, "outer_loss"), ({"scope": "all"}, "linear")])
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)
