"""Logistic Newton steps against an independent optimiser."""

import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from tfmeta.learners.logistic_solve import solve_logistic

TASKS, WIDTH = 4, 6
ROWS = [3, 9]  # dual and primal form


def problem(rows, *, seed=0, shift=0.0):
    rng = np.random.default_rng([seed, rows])
    target = rng.choice([0.0, 1.0, 3.0], size=(TASKS, rows))
    return {"features": rng.normal(size=(TASKS, rows, WIDTH)), "output": rng.normal(size=(TASKS, rows)) + shift,
            "target": target, "length": np.array([rows, 1, 2, rows], np.int32),
            "precision": rng.gamma(2.0, size=WIDTH)}


def solve(values, *, steps, dtype=tf.float64):
    tensors = {k: tf.constant(v, tf.int32 if k == "length" else dtype) for k, v in values.items()}
    return solve_logistic(tensors.pop("features"), tensors.pop("output"), steps=steps, **tensors)


def loss(d, values, task):
    n = values["length"][task]
    f, base, y = (values[k][task][:n] for k in ("features", "output", "target"))
    logit = np.where(y > 0, 1, -1) * (base + f @ d)
    return (np.maximum(y, 1) * np.logaddexp(0, -logit)).sum() + 0.5 * (values["precision"] * d * d).sum()


def optimum(values):
    found = []
    for task in range(TASKS):
        result = scipy.optimize.minimize(loss, np.zeros(WIDTH), args=(values, task), method="BFGS",
                                         options={"gtol": 1e-10, "maxiter": 1000})
        found.append(result.x)
    return np.stack(found)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shift", [0.0, -6.0])
def test_converges_to_the_optimum(rows, shift):
    values = problem(rows, shift=shift)
    best = optimum(values)
    np.testing.assert_allclose(solve(values, steps=30), best, atol=2e-6)
    # Convergence is quadratic once it is near.
    errors = [np.abs(solve(values, steps=k) - best).max() for k in (1, 5, 10)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < (1e-4 if not shift else 1e-2)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shift", [0.0, -4.0, -30.0, 30.0])
def test_no_step_raises_the_loss(rows, shift):
    """Plain Newton steps bounce between both ends where the start is certain and wrong."""
    values = problem(rows, shift=shift)
    solutions = [np.zeros((TASKS, WIDTH)), *(solve(values, steps=k).numpy() for k in range(1, 9))]
    for task in range(TASKS):
        losses = [loss(solution[task], values, task) for solution in solutions]
        assert (np.diff(losses) <= 1e-9).all(), losses
        assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["features", "output", "precision"])
@pytest.mark.parametrize("rows", ROWS)
def test_gradient_is_the_finite_difference(rows, name):
    values = problem(rows)
    rng = np.random.default_rng(4)
    probe = rng.normal(size=(TASKS, WIDTH))

    def value(changed):
        tensors = {k: tf.constant(v) for k, v in values.items()} | {name: changed}
        found = solve_logistic(tensors.pop("features"), tensors.pop("output"), steps=4, **tensors)
        return tf.reduce_sum(probe * found)

    start = tf.constant(values[name])
    with tf.GradientTape() as tape:
        tape.watch(start)
        result = value(start)
    gradient = tape.gradient(result, start).numpy()
    direction = rng.normal(size=start.shape)
    difference = (value(start + 1e-6 * direction) - value(start - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose((gradient * direction).sum(), difference, rtol=1e-6, atol=1e-8)


def test_padding_and_what_is_no_number_leave_no_trace():
    values = problem(5)
    base = solve(values, steps=4)
    dirty = {k: v.copy() for k, v in values.items()}
    for task, n in enumerate(values["length"]):
        for name in ("features", "output", "target"):
            dirty[name][task, n:] = np.nan
    np.testing.assert_array_equal(solve(dirty, steps=4), base)

    def gradient(changed):
        tensors = {k: tf.constant(v) for k, v in changed.items()}
        with tf.GradientTape() as tape:
            tape.watch(precision := tensors["precision"])
            found = solve_logistic(tensors.pop("features"), tensors.pop("output"), steps=4, **tensors)
        return tape.gradient(found, precision)

    np.testing.assert_allclose(gradient(dirty), gradient(values), rtol=1e-12)
    wider = {**values, **{k: np.pad(values[k], [(0, 0), (0, 8), (0, 0)][:values[k].ndim], constant_values=9.0)
                          for k in ("features", "output", "target")}}
    np.testing.assert_allclose(solve(wider, steps=4), base, rtol=1e-9, atol=1e-12)


def test_no_rows_is_exactly_zero():
    values = {**problem(5), "length": np.zeros(TASKS, np.int32)}
    np.testing.assert_array_equal(solve(values, steps=3, dtype=tf.float32), np.zeros((TASKS, WIDTH)))


@pytest.mark.parametrize("name,factor", [("target", 1e30), ("target", np.inf), ("output", 1e30), ("features", 1e12),
                                         ("features", 1e25), ("features", np.nan), ("precision", 1e-9)])
@pytest.mark.parametrize("rows", ROWS)
def test_float32_stays_finite(rows, name, factor):
    values = problem(rows)
    values[name] = values[name] * np.where(values[name] == 0, 1, factor)
    assert np.isfinite(solve(values, steps=5, dtype=tf.float32)).all()
