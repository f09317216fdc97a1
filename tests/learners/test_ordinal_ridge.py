"""The ordinal ridge head against direct float64 computations."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from learner_cases import EMBEDDING, TWO_TOWER, check_meta_gradient, encode, scores, task_loss
from recommender_cases import make_batch, make_spec, randomise
from scipy.special import expit, log_expit

from tfmeta.errors import ConfigError
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.recommender import build_recommender

LABEL = make_spec().label
EXTREMES = np.array([-1e6, -1e4, -50.0, -1.0, 0.0, 0.3, 2.0, 50.0, 1e4, 1e6])


def build(unit="rating", model=None, label=None, **options):
    spec = make_spec(unit)
    spec = spec if label is None else dataclasses.replace(spec, label=dataclasses.replace(spec.label, **label))
    return build_recommender(spec, model={**TWO_TOWER, **(model or {})},
                             learner={"name": "ordinal_ridge", **options})


def variable(built, name):
    return next(v for v in built.trainable_variables if v.path.endswith(f"ordinal_ridge/{name}"))


def cut_points(built) -> np.ndarray:
    steps = 1e-3 + np.logaddexp(0, variable(built, "cut_steps").numpy())
    return variable(built, "first_cut").numpy() + np.concatenate([[0], np.cumsum(steps)])


def at_outputs(built, outputs):
    """Returns the weights `[N, P]` and the query `[N, 1]` for which the linear outputs are those given."""
    batch = make_batch(len(outputs), query=1)
    user, item = built.encode_user(batch.user, tasks=tf.constant(len(outputs))), built.encode_item(batch.query_item)
    offset = built.model.linear(user, item)[1].numpy()
    weights = np.zeros((len(outputs), built.learner.width), offset.dtype)
    weights[:, -1] = outputs - offset[:, 0]  # the last feature is 1
    return tf.constant(weights), Query(user, item)


def predicted(built, outputs) -> Prediction:
    weights, query = at_outputs(built, outputs)
    return built.learner.predict({"weights": weights}, query)


@pytest.mark.parametrize("options", [{}, {"regularisation": "shared", "row_noise": False}, {"context_units": 0}])
@pytest.mark.parametrize("rows", [2, 9])
def test_weights_are_the_direct_computation(float64, options, rows):
    built = build(initial_regularisation=0.3, **options)
    randomise(built, scale=0.4)
    batch = make_batch(support=rows)
    labels = batch.support_label.numpy()
    labels[0, 0] = 60.0  # beyond the bound of the statistics
    batch = batch._replace(support_label=tf.constant(labels))
    inputs = encode(built, batch)
    inputs.pop("query_item")
    fast = built.adapt(**inputs)
    phi_all, offset = (t.numpy() for t in built.model.linear(inputs["user"], inputs["support_item"]))
    np.testing.assert_array_equal(phi_all[..., -1], 1.0)
    target, prior = built.to_target(batch.support_label).numpy(), inputs["user"].numpy()
    precision = np.diag(np.broadcast_to(built.learner.precision().numpy(), phi_all.shape[-1:]))
    for task, n in enumerate(batch.support_length.numpy()):
        phi, y, start = phi_all[task, :n], (target - offset)[task, :n], prior[task]
        if options.get("context_units") != 0:
            r = np.clip(y - phi @ start, -10, 10)
            statistics = np.concatenate([[r.sum() / (n + 3)], [(r ** 2).sum() / (n + 3)],
                                         phi.sum(0) / np.sqrt(n + 1)])
            hidden = np.maximum(statistics @ variable(built, "context_hidden").numpy(), 0)
            change = hidden @ variable(built, "context_output").numpy()
            assert np.abs(change).max() > 1e-3
            start = start + change
        s = np.ones(n)
        if options.get("row_noise", True):
            s = np.exp(np.tanh(phi @ variable(built, "row_noise").numpy()))
            assert np.ptp(s) > 0.01 or n == 1
        d = np.linalg.solve(phi.T @ (s[:, None] * phi) + precision, phi.T @ (s * (y - phi @ start)))
        np.testing.assert_allclose(fast["weights"][task], start + d, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0, 4.0])
def test_levels_are_differences_of_sigmoids(float64, step):
    built = build(step=step)
    randomise(built, scale=0.7)
    cuts, slope = cut_points(built), np.exp(variable(built, "log_slope").numpy())
    outputs = np.linspace(cuts[0] - 2, cuts[-1] + 2, 60)
    prediction = predicted(built, outputs)
    assert len(cuts) == round(4 / step) and (np.diff(cuts) > 0).all()
    below = np.pad(expit(slope * (cuts - outputs[:, None])), ((0, 0), (1, 1)), constant_values=(0.0, 1.0))
    expected = np.diff(below, axis=1)
    probability = np.exp(prediction.log_levels[:, 0])
    np.testing.assert_allclose(probability, expected, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(probability.sum(1), 1.0, rtol=1e-12)
    levels = np.arange(1.0, 5.0 + step / 2, step)
    np.testing.assert_allclose(built.to_score(prediction.output)[:, 0], expected @ levels, rtol=1e-9)
    first = levels[(np.cumsum(expected, axis=1) >= 0.5).argmax(1)]
    np.testing.assert_allclose(built.to_score(prediction.median)[:, 0], first, rtol=1e-12)
    assert len(set(first)) == len(levels)


def test_untrained_cut_points_lie_midway():
    built = build()
    np.testing.assert_allclose(cut_points(built) * LABEL.std + LABEL.mean, [1.5, 2.5, 3.5, 4.5], rtol=1e-5)
    levels = (np.arange(1, 6) - LABEL.mean) / LABEL.std
    np.testing.assert_allclose(built.to_score(predicted(built, levels).median)[:, 0], np.arange(1, 6), rtol=1e-6)
    # Of a label whose deviation is far larger than its range.
    assert np.isfinite(predicted(build(label={"std": 5e3}), EXTREMES).log_levels).all()


@pytest.mark.parametrize("steps,slope", [(0.5, 0.7), (-100.0, 0.7), (30.0, 0.7), (0.5, 50.0), (-100.0, 50.0),
                                         (0.5, -50.0), (-100.0, -50.0)])
def test_log_probabilities_and_gradients_are_finite_at_extreme_outputs(steps, slope):
    """Cut points ascend whatever the variables hold: otherwise a level would have no probability."""
    built = build()
    variable(built, "cut_steps").assign(np.full(3, steps, np.float32))
    variable(built, "log_slope").assign(np.float32(slope))
    weights, query = at_outputs(built, EXTREMES)
    variables = [variable(built, name).value for name in ("first_cut", "cut_steps", "log_slope")]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(weights)
        prediction = built.learner.predict({"weights": weights}, query)
        parts = [prediction.output, *tf.unstack(prediction.log_levels, axis=-1)]
    probability = np.exp(prediction.log_levels[:, 0].numpy().astype(np.float64))
    assert np.isfinite(prediction.log_levels).all()
    np.testing.assert_allclose(probability.sum(1), 1.0, rtol=1e-5)
    for part in parts:
        for gradient in tape.gradient(part, [weights, *variables], unconnected_gradients="zero"):
            assert np.isfinite(gradient).all()


def test_log_probabilities_keep_their_digits_at_extreme_outputs():
    built = build()
    logits = np.exp(variable(built, "log_slope").numpy()) * (cut_points(built) - EXTREMES[:, None])
    below, above = log_expit(logits), log_expit(-logits)
    between = below[:, 1:] + above[:, :-1] + np.log(-np.expm1(-np.diff(logits, axis=1)))
    expected = np.concatenate([below[:, :1], between, above[:, -1:]], axis=1)
    np.testing.assert_allclose(predicted(built, EXTREMES).log_levels[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_scores_and_medians_lie_on_the_scale():
    built = build(step=0.5)
    randomise(built, scale=0.5)
    outputs = np.concatenate([EXTREMES, np.random.default_rng(0).normal(scale=3, size=50)])
    prediction = predicted(built, outputs)
    score, median = (built.to_score(t).numpy()[:, 0] for t in (prediction.output, prediction.median))
    for values in (score, median):
        assert values.min() > 1 - 1e-5 and values.max() < 5 + 1e-5
    np.testing.assert_allclose(median * 2, np.round(median * 2), atol=1e-5)
    np.testing.assert_allclose([score[0], score[9], median[0], median[9]], [1, 5, 1, 5], rtol=1e-5)
    order = np.argsort(outputs)
    assert (np.diff(score[order]) >= -1e-5).all() and (np.diff(median[order]) >= 0).all()


def test_outer_loss_is_the_negative_log_likelihood_of_the_nearest_level(float64):
    built = build()
    randomise(built, scale=0.5)
    batch = make_batch(query=5)
    labels = batch.query_label.numpy()
    labels[:, 0] = [1.2, 2.9, 4.4, 4.6, 9.0]
    batch = batch._replace(query_label=tf.constant(labels), query_length=tf.constant([5, 3, 1, 2, 0]))
    inputs = encode(built, batch)
    query = Query(inputs["user"], inputs.pop("query_item"))
    log_levels = built.learner.predict(built.adapt(**inputs), query).log_levels.numpy()
    nearest = np.abs(labels[..., None] - np.arange(1, 6)).argmin(-1)
    chosen = np.take_along_axis(log_levels, nearest[..., None], -1)[..., 0]
    expected = [-chosen[task, :n].mean() if n else 0.0 for task, n in enumerate(batch.query_length.numpy())]
    np.testing.assert_allclose(task_loss(built, batch), expected, rtol=1e-9)
    # NaN in the padding, of labels and of predictions, reaches neither the value nor the gradient.
    used = tf.sequence_mask(batch.query_length, 5)
    given = tf.constant(log_levels)
    spoilt = tf.where(used[..., None], given, np.nan)
    losses, gradients = [], []
    for levels, label in ((given, labels), (spoilt, np.where(used, labels, np.nan))):
        with tf.GradientTape() as tape:
            tape.watch(levels)
            prediction = Prediction(output=tf.zeros([5, 5], tf.float64), log_levels=levels)
            losses.append(built.learner.outer_loss(prediction, target=built.to_target(tf.constant(label)),
                                                   length=batch.query_length))
        gradients.append(tape.gradient(losses[-1], levels).numpy())
    np.testing.assert_array_equal(losses[0], losses[1])
    np.testing.assert_array_equal(gradients[0], gradients[1])
    assert np.abs(gradients[0]).max() > 0.01


def test_outer_loss_by_name_is_that_of_the_score(float64):
    built = build(outer_loss="squared_error")
    randomise(built)
    batch = make_batch()
    errors = ((scores(built, batch)[0].numpy() - batch.query_label.numpy()) / LABEL.std) ** 2
    expected = [errors[task, :n].mean() for task, n in enumerate(batch.query_length.numpy())]
    np.testing.assert_allclose(task_loss(built, batch), expected, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"outer_loss": "squared_error", "step": 2.0}])
def test_meta_gradient_is_the_finite_difference(float64, options):
    built = build(context_units=6, **options)
    randomise(built, seed=5)
    batch = make_batch(seed=7)
    derivatives = check_meta_gradient(built, batch)
    own = {"first_cut", "cut_steps", "log_slope", "log_precision", "row_noise", "context_hidden", "context_output"}
    assert own <= {path.split("/")[-1] for path in derivatives}
    for path, derivative in derivatives.items():
        if path.split("/")[-1] in own:
            assert abs(derivative) > 1e-6, path


def test_an_empty_support_leaves_the_prior():
    built = build()
    randomise(built, scale=0.5)
    batch = make_batch()
    inputs = encode(built, batch._replace(support_length=tf.zeros(5, tf.int32)))
    inputs.pop("query_item")
    np.testing.assert_array_equal(built.adapt(**inputs)["weights"], inputs["user"])


@pytest.mark.parametrize("value", [3e38, -3e38, 1e14, np.inf, np.nan])
def test_an_extreme_label_leaves_finite_weights(value):
    built = build()
    randomise(built)
    batch = make_batch()
    user, item = built.encode_user(batch.user, tasks=tf.constant(5)), built.encode_item(batch.support_item)
    target = batch.support_label.numpy()
    target[:, 0] = value
    fast = built.learner.adapt(built.learner.init(user), Support(user, item, tf.constant(target), tf.fill([5], 6)))
    assert np.isfinite(fast["weights"]).all()
    prediction = built.learner.predict(fast, Query(user, built.encode_item(batch.query_item)))
    assert np.isfinite(prediction.output).all() and np.isfinite(prediction.median).all()


def test_medians_are_unadapted_where_scores_are():
    """Of an empty support, and of a task whose adaptation left the range of floats."""
    built = build()
    randomise(built, scale=0.5)
    inputs = encode(built, make_batch(query=12))
    item = inputs["support_item"].numpy()
    item[1] = np.inf
    inputs["support_item"], inputs["support_length"] = tf.constant(item), tf.constant([0, 6, 6, 6, 6])
    adapted, base = built.adapt_and_score(**inputs)
    np.testing.assert_array_equal(adapted[:2], base[:2])
    unadapted = built.learner.predict(built.learner.init(inputs["user"]), Query(inputs["user"], inputs["query_item"]))
    medians, expected = built.adapt_and_median(**inputs), built.to_score(unadapted.median)
    np.testing.assert_array_equal(medians[:2], expected[:2])
    assert np.abs(medians[2:] - expected[2:]).max() >= 1


@pytest.mark.parametrize("options,message", [
    ({"unit": "click"}, "unit rating"), ({"unit": "weight"}, "unit rating"), ({"step": 0.3}, "learner.step"),
    ({"step": 3.0}, "learner.step"), ({"step": 0.0}, "learner.step"), ({"step": -1.0}, "learner.step"),
    ({"step": 8.0}, "learner.step"), ({"step": 0.01}, "learner.step"), ({"step": float("nan")}, "learner.step"),
    ({"context_units": -1}, "context_units"), ({"initial_regularisation": 0.0}, "initial_regularisation"),
    ({"regularisation": "none"}, "regularisation"), ({"newton_steps": 3}, "newton_steps"),
    ({"outer_loss": "likelihood"}, "outer_loss"), ({"scope": "all"}, "linear in what adapts"),
    ({"model": {"similarity": "cosine"}}, "linear in what adapts")])
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_the_last_layer_of_another_model_is_a_head_too():
    built = build_recommender(make_spec(), model=EMBEDDING, learner={"name": "ordinal_ridge", "scope": "last_layer"})
    randomise(built)
    batch = make_batch()
    adapted, base = scores(built, batch)
    assert np.isfinite(adapted).all() and np.abs(adapted - base).max() > 1e-3
