"""MAML against closed forms in float64 and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from linear_model import QUERY, SUPPORT, TASKS, WIDTH, LinearModel, problem
from recommender_cases import MODEL_SCOPES, make_batch, make_spec, randomise

from tfmeta.learners.inner_loop import clip_by_task_norm
from tfmeta.learners.maml import MAML
from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.recommender import build_recommender

RATE = 0.07


def closed_form(w, xs, ys, xq, yq, *, steps, first_order):
    """Sum over tasks of the query loss and its derivative by w, by hand."""
    loss, gradient = 0.0, np.zeros(WIDTH)
    for t in range(TASKS):
        adapted, jacobian = w.copy(), np.eye(WIDTH)
        hessian = 2 / SUPPORT * xs[t].T @ xs[t]
        for _ in range(steps):
            adapted = adapted - RATE * 2 / SUPPORT * xs[t].T @ (xs[t] @ adapted - ys[t])
            jacobian = jacobian if first_order else (np.eye(WIDTH) - RATE * hessian) @ jacobian
        residual = xq[t] @ adapted - yq[t]
        loss += (residual ** 2).mean()
        gradient += jacobian.T @ (2 / QUERY * xq[t].T @ residual)
    return loss, gradient


def run(w, xs, ys, xq, yq, **options):
    model = LinearModel(make_spec())
    model.weight.assign(w)
    learner = MAML(model, inner_learning_rate=RATE, learn_rates="fixed", **options)
    user = tf.zeros([TASKS, 1], tf.float64)
    with tf.GradientTape() as tape:
        support = Support(user=user, item=tf.constant(xs), target=tf.constant(ys), length=tf.fill([TASKS], SUPPORT))
        fast = learner.adapt(learner.init(user), support)
        prediction = learner.predict(fast, Query(user=user, item=tf.constant(xq)))
        loss = tf.reduce_sum(learner.outer_loss(prediction, target=tf.constant(yq), length=tf.fill([TASKS], QUERY)))
    return loss.numpy(), tape.gradient(loss, model.weight.value).numpy()


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_is_the_closed_form(float64, steps, first_order):
    data = problem()
    loss, gradient = run(*data, inner_steps=steps, first_order=first_order)
    expected_loss, expected = closed_form(*data, steps=steps, first_order=first_order)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected, rtol=1e-11)


def test_first_order_differs_from_second_order(float64):
    data = problem()
    second, first = (run(*data, inner_steps=3, first_order=f) for f in (False, True))
    np.testing.assert_allclose(first[0], second[0], rtol=1e-14)
    assert np.abs(first[1] - second[1]).max() > 1e-2


def test_shrinkage_is_n_over_n_plus_tau(float64):
    data = problem()
    _, shrunk = run(*data, inner_steps=1, shrinkage=3.0)
    w, xs, ys, xq, yq = data
    scale = SUPPORT / (SUPPORT + 3.0)
    gradient = np.zeros(WIDTH)
    for t in range(TASKS):
        hessian = 2 / SUPPORT * xs[t].T @ xs[t] * scale
        adapted = w - RATE * scale * 2 / SUPPORT * xs[t].T @ (xs[t] @ w - ys[t])
        gradient += (np.eye(WIDTH) - RATE * hessian).T @ (2 / QUERY * xq[t].T @ (xq[t] @ adapted - yq[t]))
    np.testing.assert_allclose(shrunk, gradient, rtol=1e-11)


@pytest.mark.parametrize("model,scope", MODEL_SCOPES)
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_meta_gradient_is_the_finite_difference(float64, model, scope, clip_norm):
    built = build_recommender(
        make_spec(), model={"name": model, "embedding_dim": 2},
        learner={"scope": scope, "inner_steps": 2, "learn_rates": "per_element", "clip_norm": clip_norm})
    randomise(built, seed=5)
    batch = make_batch(seed=7)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(built.batch_loss(batch))
    loss = tf.function(lambda: tf.reduce_sum(built.batch_loss(batch)), autograph=False)
    variables = built.trainable_variables
    gradients = tape.gradient(value, [v.value for v in variables])
    rng, checked = np.random.default_rng(0), 0
    for variable, gradient in zip(variables, gradients, strict=True):
        gradient = tf.convert_to_tensor(gradient).numpy()
        direction = rng.normal(size=variable.shape)
        start, step = variable.numpy(), 1e-6
        variable.assign(start + step * direction)
        above = loss().numpy()
        variable.assign(start - step * direction)
        below = loss().numpy()
        variable.assign(start)
        difference, expected = (above - below) / (2 * step), (gradient * direction).sum()
        # A ReLU may switch within the step; the tolerance is far below any missing second-order term.
        np.testing.assert_allclose(difference, expected, rtol=2e-4, atol=2e-6, err_msg=variable.path)
        checked += abs(expected) > 1e-5
    assert checked >= len(variables) // 2


@pytest.mark.parametrize("model,scope", MODEL_SCOPES)
def test_zero_steps_is_the_plain_model(model, scope):
    built = build_recommender(make_spec(), model={"name": model}, learner={"scope": scope, "inner_steps": 0})
    randomise(built)
    batch = make_batch()
    plain = built.to_score(built.model((batch.user, batch.query_item)))
    np.testing.assert_array_equal(built(batch), plain)


@pytest.mark.parametrize("model,scope", MODEL_SCOPES)
def test_inner_steps_lower_the_support_loss(model, scope):
    losses = []
    for steps in (0, 1, 5):
        built = build_recommender(make_spec(), model={"name": model},
                                  learner={"scope": scope, "inner_steps": steps, "inner_learning_rate": 0.01})
        batch = make_batch(tasks=32)
        on_support = batch._replace(query_item=batch.support_item, query_label=batch.support_label,
                                    query_length=batch.support_length)
        losses.append(float(tf.reduce_mean(built.batch_loss(on_support))))
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("learn_rates,shape", [("per_weight", ()), ("per_element", (32,))])
def test_learned_rates_get_gradients_and_are_reported(learn_rates, shape):
    built = build_recommender(make_spec(), learner={"learn_rates": learn_rates, "inner_learning_rate": 0.2})
    rates = built.learner.inner_learning_rates()
    assert rates["user_vector"].shape == shape
    np.testing.assert_allclose(rates["user_vector"], 0.2, rtol=1e-6)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(built.batch_loss(make_batch()))
    assert all(g is not None for g in tape.gradient(loss, [v.value for v in built.learner.trainable_variables]))


def test_fixed_rates_add_no_variable():
    built = build_recommender(make_spec(), learner={"learn_rates": "fixed"})
    assert built.learner.inner_learning_rates() == {}
    assert not any("rate" in v.path for v in built.trainable_variables)


def test_clipping_bounds_each_task_alone():
    rng = np.random.default_rng(0)
    gradients = {"a": tf.constant(rng.normal(size=(4, 3, 2))), "b": tf.constant(rng.normal(size=(4, 5)))}
    gradients["a"] = gradients["a"] * np.array([1e-6, 1, 10, 0])[:, None, None]
    gradients["b"] = gradients["b"] * np.array([1e-6, 1, 10, 0])[:, None]
    clipped = clip_by_task_norm(gradients, clip_norm=0.5)
    for task in range(4):
        before = np.concatenate([np.ravel(g[task]) for g in gradients.values()])
        after = np.concatenate([np.ravel(g[task]) for g in clipped.values()])
        norm = np.linalg.norm(before)
        np.testing.assert_allclose(after, before * min(1, 0.5 / norm) if norm else before, rtol=1e-12)


@pytest.mark.parametrize("model,scope", MODEL_SCOPES)
def test_the_adapted_graph_has_no_python_and_no_state(model, scope):
    built = build_recommender(make_spec(), model={"name": model}, learner={"scope": scope})
    graph = tf.function(built.__call__, autograph=False).get_concrete_function(make_batch()).graph
    kinds = {op.type for op in graph.get_operations()}
    assert not kinds & {"PyFunc", "EagerPyFunc", "AssignVariableOp", "RandomUniform", "RandomStandardNormal"}
