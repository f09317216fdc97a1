"""The ridge head against direct float64 solves."""

import numpy as np
import pytest
import tensorflow as tf
from learner_cases import TWO_TOWER, check_meta_gradient, scores
from recommender_cases import make_batch, make_spec, randomise

from tfmeta.errors import ConfigError
from tfmeta.learners.task_tensors import Support
from tfmeta.models.recommender import build_recommender


def build(unit="rating", model=None, **options):
    return build_recommender(make_spec(unit), model={**TWO_TOWER, **(model or {})},
                             learner={"name": "ridge", **options})


@pytest.mark.parametrize("regularisation", ["per_dimension", "shared"])
@pytest.mark.parametrize("rows", [2, 9])
def test_weights_are_the_direct_solve_around_the_prior(float64, regularisation, rows):
    built = build(regularisation=regularisation, initial_regularisation=0.3)
    randomise(built, scale=0.4)
    batch = make_batch(support=rows)
    user = built.encode_user(batch.user, tasks=tf.constant(5))
    item = built.encode_item(batch.support_item)
    fast = built.adapt(user, support_item=item, support_label=batch.support_label,
                       support_length=batch.support_length)
    features, offset = (t.numpy() for t in built.model.linear(user, item))
    target = built.to_target(batch.support_label).numpy()
    precision = np.diag(np.broadcast_to(built.learner.precision().numpy(), features.shape[-1:]))
    for task, n in enumerate(batch.support_length.numpy()):
        phi, prior = features[task, :n], user.numpy()[task]
        expected = prior + np.linalg.solve(phi.T @ phi + precision,
                                           phi.T @ (target[task, :n] - phi @ prior - offset[task, :n]))
        np.testing.assert_allclose(fast["weights"][task], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("unit", ["click", "weight"])
@pytest.mark.parametrize("rows", [2, 9])
def test_weights_of_implicit_feedback_minimise_the_logistic_loss(float64, unit, rows):
    import scipy.optimize

    built = build(unit, newton_steps=25, initial_regularisation=0.5)
    randomise(built, scale=0.4)
    batch = make_batch(unit=unit, support=rows)
    user, item = built.encode_user(batch.user, tasks=tf.constant(5)), built.encode_item(batch.support_item)
    fast = built.adapt(user, support_item=item, support_label=batch.support_label, support_length=batch.support_length)
    features, offset = (t.numpy() for t in built.model.linear(user, item))
    target, precision = batch.support_label.numpy(), built.learner.precision().numpy()
    for task, n in enumerate(batch.support_length.numpy()):
        phi, shift, label, prior = features[task, :n], offset[task, :n], target[task, :n], user.numpy()[task]

        def loss(w, phi=phi, shift=shift, label=label, prior=prior):
            logit = np.where(label > 0, 1, -1) * (phi @ w + shift)
            return np.maximum(label, 1) @ np.logaddexp(0, -logit) + 0.5 * precision @ (w - prior) ** 2

        expected = scipy.optimize.minimize(loss, prior, options={"gtol": 1e-9}).x
        np.testing.assert_allclose(fast["weights"][task], expected, atol=2e-6)


@pytest.mark.parametrize("unit", ["rating", "click"])
def test_meta_gradient_is_the_finite_difference(float64, unit):
    built = build(unit, newton_steps=3)
    randomise(built, seed=5)
    batch = make_batch(unit=unit, seed=7)
    check_meta_gradient(built, batch)


def test_strong_regularisation_keeps_the_prior_and_weak_one_fits_the_support():
    for strength, fits in ((1e6, False), (1e-4, True)):
        built = build(initial_regularisation=strength)
        batch = make_batch(support=3)._replace(support_length=tf.fill([5], 3))
        adapted, base = scores(built, batch._replace(query_item=batch.support_item))
        if fits:
            np.testing.assert_allclose(adapted, batch.support_label, atol=0.05)
        else:
            np.testing.assert_allclose(adapted, base, atol=1e-4)


def test_prediction_is_that_of_the_model_itself():
    """The unadapted ridge recommender scores as any other learner on the same model."""
    built = build()
    randomise(built)
    batch = make_batch()
    plain = built.to_score(built.model((batch.user, batch.query_item)))
    np.testing.assert_allclose(scores(built, batch)[1], plain, rtol=1e-5, atol=1e-5)
    user = built.encode_user(batch.user, tasks=tf.constant(5))
    item = built.encode_item(batch.query_item)
    features, offset = built.model.linear(user, item)
    np.testing.assert_allclose(built.model.linear_output(user, user, item),
                               tf.linalg.matvec(features, user) + offset, rtol=1e-5, atol=1e-5)
    share = tf.random.stateless_uniform([item.shape[0], 3, item.shape[1]], seed=[1, 2])
    np.testing.assert_allclose(built.model.linear_sums(share, user, item), tf.linalg.matmul(share, features),
                               rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [3e38, -3e38, np.inf, np.nan])
def test_an_extreme_label_leaves_finite_weights(value):
    built = build()
    batch = make_batch()
    user, item = built.encode_user(batch.user, tasks=tf.constant(5)), built.encode_item(batch.support_item)
    target = batch.support_label.numpy()
    target[:, 0] = value
    fast = built.learner.adapt(built.learner.init(user), Support(user, item, tf.constant(target), tf.fill([5], 6)))
    assert np.isfinite(fast["weights"]).all()


@pytest.mark.parametrize("options,message", [
    ({"initial_regularisation": 0.0}, "initial_regularisation"), ({"regularisation": "none"}, "regularisation"),
    ({"newton_steps": 0}, "newton_steps"), ({"inner_loss": "pairwise"}, "inner_loss"),
    ({"inner_loss": "binary_cross_entropy"}, "inner_loss"), ({"scope": "all"}, "linear in what adapts"),
    ({"model": {"similarity": "cosine"}}, "linear in what adapts")])
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)
