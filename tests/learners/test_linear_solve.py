"""Ridge systems against direct float64 solves, finite differences and inputs that would break a careless solver."""

import numpy as np
import pytest
import tensorflow as tf

from tfmeta.learners.linear_solve import in_range, posterior, solve_ridge, solve_spd, whitening_scale

TASKS, WIDTH = 5, 7
ROWS = [1, 3, 6, 7, 12]  # the dual form below WIDTH, the primal one from there


def problem(rows, *, width=WIDTH, tasks=TASKS, seed=0, dtype=np.float64):
    rng = np.random.default_rng([seed, rows])
    weight = rng.gamma(2.0, size=(tasks, rows)) * (rng.random((tasks, rows)) < 0.8)
    return {"features": rng.normal(size=(tasks, rows, width)).astype(dtype),
            "residual": rng.normal(size=(tasks, rows)).astype(dtype), "row_weight": weight.astype(dtype),
            "precision": rng.gamma(2.0, size=width).astype(dtype)}


def direct(features, residual, row_weight, precision):
    """Solution and posterior covariance of each task by numpy, in the primal form."""
    precision = np.broadcast_to(precision, (len(features), features.shape[-1]))
    matrix = np.einsum("bsp,bs,bsq->bpq", features, row_weight, features) + np.stack([np.diag(p) for p in precision])
    return (np.linalg.solve(matrix, np.einsum("bsp,bs->bp", features, row_weight * residual)[..., None])[..., 0],
            np.linalg.inv(matrix))


def run(values):
    return solve_ridge(tf.constant(values["features"]), tf.constant(values["residual"]),
                       row_weight=tf.constant(values["row_weight"]), precision=tf.constant(values["precision"]))


def ridge_posterior(features, residual, *, row_weight, precision):
    """Returns the solution and a factor of the covariance, each by way of the whitened system."""
    scale = whitening_scale(precision)
    root = tf.sqrt(tf.where(row_weight > 0, row_weight, 1))
    solution, factor = posterior(in_range(features * scale[:, None, :], row_weight),
                                 tf.where(row_weight > 0, residual * root, 0), root=tf.linalg.diag(scale))
    return solution, tf.linalg.matrix_transpose(factor)


@pytest.mark.parametrize("rows", ROWS)
def test_solution_and_covariance_are_the_direct_ones(rows):
    values = problem(rows)
    mean, covariance = direct(**values)
    np.testing.assert_allclose(run(values), mean, rtol=1e-9, atol=1e-12)
    delta, factor = ridge_posterior(values["features"], values["residual"], row_weight=tf.constant(
        values["row_weight"]), precision=tf.constant(values["precision"]))
    np.testing.assert_allclose(delta, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(tf.linalg.matmul(factor, factor, transpose_b=True), covariance, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", ROWS)
def test_precision_may_differ_by_task(rows):
    values = problem(rows)
    values["precision"] = np.random.default_rng(3).gamma(2.0, size=(TASKS, WIDTH))
    np.testing.assert_allclose(run(values), direct(**values)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("width", [WIDTH, 33])
def test_form_is_chosen_alike_when_the_shape_is_known_only_as_the_graph_runs(width):
    spec = {"features": [None, None, width], "residual": [None, None], "row_weight": [None, None],
            "precision": [width]}

    def solve(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            features, residual, weight, precision = arguments
            found = solve_ridge(features, residual, row_weight=weight, precision=precision)
            total = tf.reduce_sum(tf.sin(found))
        return found, tape.gradient(total, arguments)

    dynamic = tf.function(solve, input_signature=[tf.TensorSpec(s, tf.float64) for s in spec.values()])
    for rows in (1, 6, 12, 32, 33, 40):
        values = problem(rows, width=width)
        found, gradients = dynamic(*(tf.constant(values[k]) for k in spec))
        np.testing.assert_allclose(found, direct(**values)[0], rtol=1e-8, atol=1e-11)
        for one, other in zip(gradients, solve(*(tf.constant(values[k]) for k in spec))[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("rows", [3, 12])
def test_compiled_by_xla_it_is_the_same(rows):
    values = {k: tf.constant(v) for k, v in problem(rows).items()}

    def solve(features, residual, row_weight, precision):
        with tf.GradientTape() as tape:
            tape.watch(features)
            one = solve_ridge(features, residual, row_weight=row_weight, precision=precision)
            mean, factor = ridge_posterior(features, residual, row_weight=row_weight, precision=precision)
            total = tf.reduce_sum(tf.sin(one)) + tf.reduce_sum(tf.square(factor))
        return one, mean, factor, tape.gradient(total, features)

    for found, expected in zip(tf.function(solve, jit_compile=True)(**values), solve(**values), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-11)


def test_both_forms_agree_whatever_the_padding():
    values = problem(4)
    padded = {**values, "features": np.pad(values["features"], [(0, 0), (0, 9), (0, 0)], constant_values=5.0),
              "residual": np.pad(values["residual"], [(0, 0), (0, 9)], constant_values=-3.0),
              "row_weight": np.pad(values["row_weight"], [(0, 0), (0, 9)])}
    np.testing.assert_allclose(run(values), run(padded), rtol=1e-10, atol=1e-13)


def test_no_rows_is_exactly_zero():
    values = problem(4, dtype=np.float32)
    values["row_weight"][:] = 0
    np.testing.assert_array_equal(run(values), np.zeros((TASKS, WIDTH)))
    _, factor = ridge_posterior(values["features"], values["residual"], row_weight=tf.constant(values["row_weight"]),
                                precision=tf.ones(WIDTH))
    np.testing.assert_array_equal(factor, np.tile(np.eye(WIDTH), (TASKS, 1, 1)))


@pytest.mark.parametrize("rows", [3, 12])
@pytest.mark.parametrize("name", ["features", "residual", "row_weight", "precision"])
@pytest.mark.parametrize("what", ["mean", "variance"])
def test_gradient_is_the_finite_difference(rows, name, what):
    values = problem(rows)
    values["row_weight"] += 0.1  # the root at zero has no derivative; `test_padding_has_no_gradient` is about it
    rng = np.random.default_rng(1)
    probe = tf.constant(rng.normal(size=(TASKS, 4, WIDTH)))

    def value(changed):
        arguments = {k: tf.convert_to_tensor(v) for k, v in {**values, name: changed}.items()}
        mean, factor = ridge_posterior(arguments.pop("features"), arguments.pop("residual"), **arguments)
        if what == "mean":
            return tf.reduce_sum(tf.sin(tf.linalg.matvec(probe, mean)))
        return tf.reduce_sum(tf.sqrt(tf.reduce_sum(tf.square(tf.linalg.matmul(probe, factor)), -1)))

    start = tf.constant(values[name])
    with tf.GradientTape() as tape:
        tape.watch(start)
        result = value(start)
    gradient = tape.gradient(result, start, unconnected_gradients=tf.UnconnectedGradients.ZERO).numpy()
    direction = rng.normal(size=start.shape)
    step = 1e-6
    difference = (value(start + step * direction) - value(start - step * direction)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum(), difference, rtol=1e-6, atol=1e-8)


def test_second_derivatives_of_the_solve_are_finite_differences_of_the_first():
    rng = np.random.default_rng(2)
    root = rng.normal(size=(2, 4, 4))
    target = tf.constant(rng.normal(size=(2, 4)))

    def gradient(matrix):
        with tf.GradientTape() as tape:
            tape.watch(matrix)
            result = tf.reduce_sum(tf.square(solve_spd(matrix, target)))
        return tape.gradient(result, matrix)

    start = tf.constant(root @ root.transpose(0, 2, 1) + np.eye(4))
    mixing = tf.constant(rng.normal(size=(2, 4, 4)))
    with tf.GradientTape() as tape:
        tape.watch(start)
        mixed = tf.reduce_sum(mixing * gradient(start))
    second = tape.gradient(mixed, start).numpy()
    direction = rng.normal(size=start.shape)
    direction += direction.transpose(0, 2, 1)
    difference = tf.reduce_sum(mixing * (gradient(start + 1e-6 * direction) - gradient(start - 1e-6 * direction)))
    np.testing.assert_allclose((second * direction).sum(), difference / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("rows", [3, 12])
def test_padding_has_no_gradient(rows):
    values = {k: tf.constant(v) for k, v in problem(rows).items()}
    values["row_weight"] *= tf.constant(np.arange(rows) < 2, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = tf.reduce_sum(solve_ridge(values["features"], values["residual"], row_weight=values["row_weight"],
                                           precision=values["precision"]))
    gradients = tape.gradient(result, values)
    assert all(np.isfinite(g).all() for g in gradients.values())
    for name in ("features", "residual", "row_weight"):
        assert not gradients[name][:, 2:].numpy().any(), name


@pytest.mark.parametrize("rows", [3, 12, 40])
@pytest.mark.parametrize("name,factor", [("residual", 1e25), ("features", 1e15), ("features", 1e30),
                                         ("features", 1e-30), ("precision", 1e-12), ("precision", 1e12),
                                         ("row_weight", 1e20), ("row_weight", 1e-20), ("features", np.nan),
                                         ("features", np.inf)])
def test_float32_stays_finite_and_neighbours_are_not_touched(rows, name, factor):
    values = problem(rows, width=33, dtype=np.float32)
    # Rows that repeat make the Gram matrix singular.
    values["features"][:, 1] = values["features"][:, 0]
    values["precision"] = np.tile(values["precision"], (TASKS, 1))
    values["row_weight"] += 0.1
    before = run(values).numpy()
    spoilt = {k: v.copy() for k, v in values.items()}
    spoilt[name][2] *= np.float32(factor)
    after = run(spoilt).numpy()
    assert np.isfinite(after).all()
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(after[others], before[others])
    if not np.isfinite(factor):
        np.testing.assert_array_equal(after[2], np.zeros(33))


@pytest.mark.parametrize("factor", [1e15, 1e30, np.inf, np.nan])
def test_posterior_of_rows_out_of_range_is_the_prior_and_neighbours_are_not_touched(factor):
    rows = problem(12, dtype=np.float32)["features"]
    target = np.ones(rows.shape[:2], np.float32)
    before = posterior(in_range(tf.constant(rows)), tf.constant(target), root=tf.eye(WIDTH)[None])
    rows[2] *= np.float32(factor)
    target[2] *= np.float32(factor)
    after = posterior(in_range(tf.constant(rows)), tf.constant(target), root=tf.eye(WIDTH)[None])
    others = [0, 1, 3, 4]
    for found, expected in zip(after, before, strict=True):
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found.numpy()[others], expected.numpy()[others])
    if factor > 1e15 or not np.isfinite(factor):
        np.testing.assert_array_equal(after[0][2], np.zeros(WIDTH))
        np.testing.assert_array_equal(after[1][2], np.eye(WIDTH))


@pytest.mark.parametrize("rows", [20, 60])
def test_float32_is_accurate(rows):
    values = problem(rows, width=33, tasks=64)
    exact = direct(**values)[0]
    single = run({k: v.astype(np.float32) for k, v in values.items()})
    assert np.abs(single - exact).max() < 1e-4 * np.abs(exact).max()
