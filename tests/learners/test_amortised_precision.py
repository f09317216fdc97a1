"""Amortised learners under XLA and in mixed precision, as the outer loop may run them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from learner_cases import CASES, build, encode, perturb
from recommender_cases import make_batch

NAMES = ("tanp", "set_encoder", "lwa", "nlba", "mamo")
# The first case of each.
AMORTISED = list({c.name: c for c in reversed(CASES) if c.name in NAMES}.values())


def gradients(recommender, loss, batch):
    inputs = {**encode(recommender, batch), "query_label": batch.query_label, "query_length": batch.query_length}
    user = inputs.pop("user")
    variables = [v.value for v in recommender.learner.trainable_variables]
    with tf.GradientTape() as tape:
        value = loss(user, **inputs, progress=0.5)
        total = tf.reduce_sum(value)
    found = tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value.numpy(), [tf.convert_to_tensor(g).numpy() for g in found]


@pytest.mark.slow
@pytest.mark.parametrize("case", AMORTISED, ids=lambda c: c.id)
def test_xla_gives_the_same_loss_and_gradients(case):
    recommender, batch = build(case), make_batch(unit=case.unit)
    perturb(recommender)
    plain, plain_gradients = gradients(recommender, recommender.query_loss, batch)
    compiled = tf.function(recommender.query_loss, autograph=False, jit_compile=True)
    value, found = gradients(recommender, compiled, batch)
    np.testing.assert_allclose(value, plain, rtol=1e-4, atol=1e-5)
    for left, right in zip(found, plain_gradients, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-2, atol=1e-3 * (1 + np.abs(right).max()))


@pytest.mark.parametrize("case", AMORTISED, ids=lambda c: c.id)
def test_mixed_precision_is_close_and_keeps_float32_weights(case):
    batch, previous = make_batch(unit=case.unit), keras.config.dtype_policy()
    full = build(case)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build(case)
    finally:
        keras.config.set_dtype_policy(previous)
    mixed.set_weights(full.get_weights())
    assert {v.dtype for v in mixed.trainable_variables} == {"float32"}
    expected, _ = gradients(full, full.query_loss, batch)
    value, found = gradients(mixed, mixed.query_loss, batch)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, expected, rtol=0.1, atol=0.05)
    assert all(np.isfinite(g).all() for g in found)
