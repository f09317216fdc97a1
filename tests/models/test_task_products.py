"""Products of tasks: numbers and derivatives of every order are those of the plain operations."""

import numpy as np
import pytest
import tensorflow as tf

from tfmeta.models.layers.task_products import add_bias, single_output, task_product

RNG = np.random.default_rng(3)


def tensor(*shape):
    return tf.constant(RNG.normal(size=shape))


CASES = {
    "product": (task_product, tf.linalg.matmul, (tensor(3, 4, 5), tensor(3, 5, 2))),
    "left transposed": (lambda a, b: task_product(a, b, transpose_left=True),
                        lambda a, b: tf.linalg.matmul(a, b, transpose_a=True), (tensor(3, 5, 4), tensor(3, 5, 2))),
    "right transposed": (lambda a, b: task_product(a, b, transpose_right=True),
                         lambda a, b: tf.linalg.matmul(a, b, transpose_b=True), (tensor(3, 4, 5), tensor(3, 2, 5))),
    "single output": (single_output, tf.linalg.matmul, (tensor(3, 4, 5), tensor(3, 5, 1))),
    "bias of each task": (add_bias, tf.add, (tensor(3, 4, 2), tensor(3, 1, 2))),
    "bias of all": (add_bias, tf.add, (tensor(3, 4, 2), tensor(1, 1, 2))),
    "rows of all": (add_bias, tf.add, (tensor(1, 4, 2), tensor(3, 1, 2))),
    "one task": (add_bias, tf.add, (tensor(1, 4, 2), tensor(1, 1, 2))),
}


def derivatives(function, arguments):
    """Value, gradient of a curved function of it, and the gradient of that gradient's curved sum."""
    with tf.GradientTape() as outer:
        outer.watch(arguments)
        with tf.GradientTape() as inner:
            inner.watch(arguments)
            value = function(*arguments)
            total = tf.reduce_sum(tf.sin(value) * tf.cast(tf.range(tf.size(value)), value.dtype).numpy().reshape(
                value.shape))
        first = inner.gradient(total, arguments)
        curved = tf.add_n([tf.reduce_sum(tf.cos(g)) for g in first])
    return value, *first, *outer.gradient(curved, arguments)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_the_plain_operation(name):
    function, plain, arguments = CASES[name]
    for found, expected in zip(derivatives(function, arguments), derivatives(plain, arguments), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in CASES if "all" not in n])
def test_no_shape_is_looked_up_for_the_gradient(name):
    function, _, arguments = CASES[name]

    @tf.function(input_signature=[tf.TensorSpec([None, *([None] if a.shape[1] > 1 else [1]), a.shape[2]], a.dtype)
                                  for a in arguments])
    def gradient(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
        # As the inner loop asks for it: an upstream gradient is there already.
        return tape.gradient(value, arguments, output_gradients=tf.identity(value))

    ops = {node.op for node in gradient.get_concrete_function().graph.as_graph_def().node}
    assert "BroadcastGradientArgs" not in ops and "MatMul" not in ops
