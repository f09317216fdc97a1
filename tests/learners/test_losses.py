"""Losses against plain NumPy, and what padding may not do."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.learners.losses import LOSSES

NAMES = sorted(LOSSES)


def by_hand(name, output, target):
    if len(output) == 0:
        return 0.0
    if name == "squared_error":
        return np.mean((output - target) ** 2)
    if name == "binary_cross_entropy":
        positive = target > 0
        p = 1 / (1 + np.exp(-output))
        return np.mean(np.where(positive, -np.log(p), -np.log1p(-p)) * np.maximum(target, 1))
    pairs = [np.log1p(np.exp(output[j] - output[i]))
             for i in range(len(output)) for j in range(len(output)) if target[i] > target[j]]
    return np.mean(pairs) if pairs else 0.0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 5))
def test_value_is_the_mean_over_real_rows(name, seed, first, second):
    rng = np.random.default_rng(seed)
    length = np.array([first, second], np.int32)
    output, target = rng.normal(size=(2, 5)) * 3, rng.integers(0, 4, (2, 5)).astype(np.float64)
    padded = np.arange(5)[None, :] >= length[:, None]
    loss = LOSSES[name](tf.constant(np.where(padded, np.nan, output)), tf.constant(np.where(padded, np.inf, target)),
                        tf.constant(length))
    expected = [by_hand(name, output[i, :n], target[i, :n]) for i, n in enumerate(length)]
    np.testing.assert_allclose(loss, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_zero_in_the_padding_and_finite(name):
    output = tf.Variable(np.array([[1.5, -2.0, np.nan], [0.5, np.inf, np.nan]]))
    with tf.GradientTape() as tape:
        loss = LOSSES[name](output, tf.constant([[1.0, 0.0, np.nan], [1.0, np.nan, 0.0]], tf.float64),
                            tf.constant([2, 1]))
    gradient = tape.gradient(loss, output).numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0, 2:], 0)
    np.testing.assert_array_equal(gradient[1, 1:], 0)
    assert np.abs(gradient[0, :2]).min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_extreme_outputs_stay_finite(name):
    loss = LOSSES[name](tf.constant([[80.0, -80.0]]), tf.constant([[0.0, 1.0]]), tf.constant([2]))
    assert np.isfinite(loss).all() and loss[0] > 10


PLAIN = {
    "squared_error": lambda o, t: tf.reduce_mean((o - t) ** 2),
    "binary_cross_entropy": lambda o, t: tf.reduce_mean(
        (tf.nn.softplus(o) - o * tf.cast(t > 0, o.dtype)) * tf.maximum(t, 1.0)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_derivatives_of_both_orders_are_those_of_the_formula(name):
    output, target = tf.constant([[1.5, -2.0, 0.3, 9.0]], tf.float64), tf.constant([[2.0, 0.0, 1.0, 9.0]], tf.float64)

    def derivatives(loss, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = 3.0 * tf.reduce_sum(loss(x))
            first = inner.gradient(value, x)
            curved = first ** 2
        return [first, outer.gradient(curved, x)]

    found = derivatives(lambda x: LOSSES[name](x, target, tf.constant([3])), output)
    expected = derivatives(lambda x: PLAIN[name](x, target[:, :3]), output[:, :3])
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[:, :3], other, rtol=1e-10)
        np.testing.assert_array_equal(mine[:, 3:], 0)
