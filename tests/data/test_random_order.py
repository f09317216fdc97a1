import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfmeta.data.random_order import random_order


def draw(count, seed, **options):
    return tf.function(random_order, reduce_retracing=True)(
        tf.constant(count, tf.int32), longest=int(max(count)), seed=tf.constant([seed, 1]), **options).numpy()


@pytest.mark.parametrize(("need", "longest"), [(None, 9), (3, 9), (3, 100), (30, 3000)])
def test_entries_are_distinct_and_in_range(need, longest):
    count = np.random.default_rng(0).integers(1, longest + 1, 400)
    order = draw(count, 7, need=need)
    assert order.shape == (400, min(need or longest, count.max())) and (order >= 0).all()
    for row, n in zip(order, count, strict=True):
        wanted = min(n, need or n)
        assert len(set(row[:wanted])) == wanted and (row[:wanted] < n).all()
    np.testing.assert_array_equal(order, draw(count, 7, need=need))
    assert (order != draw(count, 8, need=need)).any()


@pytest.mark.parametrize(("count", "margin"), [(20, 4.0), (60, 4.0), (60, 0.5), (1000, 1.0), (5000, 4.0)])
def test_thinned_orders_are_uniform(count, margin):
    # With a small margin almost every range is thinned more than once.
    need, number = 3, 20000
    order = np.concatenate([draw([count] * 2000, seed, need=need, margin=margin) for seed in range(number // 2000)])
    bins = count if count <= 60 else 50
    for place in range(need):
        assert stats.chisquare(np.bincount(order[:, place] * bins // count, minlength=bins)).pvalue > 0.001
    if count <= 60:
        pairs = np.bincount(order[:, 0] * count + order[:, 1], minlength=count**2).reshape(count, count)
        assert stats.chisquare(pairs[~np.eye(count, dtype=bool)]).pvalue > 0.001
    ranks = np.argsort(order, axis=1) @ [9, 3, 1]
    assert stats.chisquare(np.unique(ranks, return_counts=True)[1]).pvalue > 0.001
    gap = np.abs(order[:, 0] - order[:, 1])  # expectation (n + 1) / 3 for two different positions
    assert abs(gap.mean() - (count + 1) / 3) < 5 * gap.std() / np.sqrt(number)


def test_the_cost_does_not_grow_with_the_ranges():
    shapes = {}
    for longest in (1000, 1_000_000_000):
        graph = tf.function(lambda c, longest=longest: random_order(
            c, need=30, longest=longest, seed=tf.constant([1, 2]))).get_concrete_function(tf.TensorSpec([4], tf.int32))
        shapes[longest] = sorted(o.type for o in graph.graph.get_operations())
        order = graph(tf.constant([5, 100, longest // 2, longest])).numpy()
        assert order.shape == (4, 30) and order[3].max() > longest // 2
    assert shapes[1000] == shapes[1_000_000_000]
