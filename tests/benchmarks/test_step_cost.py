"""The training step of W1 may not grow: operations, matrix products and arithmetic stay below recorded bounds."""

import pytest

from benchmarks import w1
from benchmarks.step_cost import dot_flops, served_ops, step_cost

# (order, inner steps) -> most operations of the graph, most matrix products, most MFLOP per task in them. Recorded with
# `python -m benchmarks.step_cost`, with about 5 % of room for what a new version of TensorFlow traces differently.
BOUNDS = {(2, 1): (1480, 45, 3.3), (2, 5): (3210, 98, 10.5), (1, 1): (1280, 27, 1.75), (1, 5): (2120, 42, 4.1)}
# Operations that one request's `adapt_and_score` runs, five inner steps, all constants folded; recorded likewise.
SERVED = 555


@pytest.mark.parametrize("order,inner_steps", BOUNDS)
def test_step_stays_below_its_bounds(order, inner_steps):
    setting = w1.W1(order=order, inner_steps=inner_steps, batches=1)
    cost = step_cost(setting)
    ops, products, mflop = BOUNDS[order, inner_steps]
    assert cost["python_ops"] == []
    assert cost["ops"] <= ops
    assert cost["products"] <= products
    assert cost["flops_per_task"] <= mflop * 1e6
    # Far fewer than the query's forward pass alone would mean that the count has missed something.
    assert cost["flops_per_task"] > w1.plain_flops(w1.W1(inner_steps=0)) / 2
    assert cost["flops_per_task"] <= w1.plain_flops(setting)


def test_served_adaptation_stays_below_its_bound(tmp_path):
    assert 0 < served_ops(str(tmp_path)) <= SERVED


def test_products_are_counted_from_their_shapes():
    text = """
      %a = f32[32,64]{1,0} dot(f32[32,128]{1,0} %x, f32[128,64]{1,0} %y), lhs_contracting_dims={1}, rhs_contracting_dims={0}
      %b = f32[2,3,5]{2,1,0} dot(f32[2,7,3]{2,1,0} %x, f32[2,7,5]{2,1,0} %y), lhs_batch_dims={0}, lhs_contracting_dims={1}, rhs_batch_dims={0}
      %c = f32[32]{0} add(f32[32]{0} %x, f32[32]{0} %y)"""  # noqa: E501
    assert dot_flops(text) == [2 * 32 * 64 * 128, 2 * 2 * 3 * 5 * 7]
    with pytest.raises(ValueError, match="could not be read"):
        dot_flops("%a = f32[4]{0} dot(something else)")


def test_a_python_function_in_the_graph_is_found():
    import tensorflow as tf

    from benchmarks.step_cost import PYTHON_OPS, graph_ops

    @tf.function
    def step(x):
        return tf.cond(x > 0, lambda: tf.numpy_function(lambda v: v + 1, [x], tf.float32), lambda: x)

    ops = graph_ops(step.get_concrete_function(tf.constant(1.0)).graph.as_graph_def())
    assert PYTHON_OPS & set(ops)
