"""Top k in chunks, and diversity, against plain numpy."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from export.retrieval.diversify import diversify
from export.retrieval.scan import top_rows


def expected_rows(values, excluded, count):
    """Rows by value, equal ones in their order; what is excluded or not finite does not take part."""
    found = []
    for value, out in zip(values, excluded, strict=True):
        left = [row for row in range(len(value)) if row not in set(out) and np.isfinite(value[row])]
        found.append(sorted(left, key=lambda row, v=value: (-v[row], row))[:count])
    return found


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_chunks_find_what_a_sort_finds(data):
    items = data.draw(st.integers(1, 40), "items")
    chunk = data.draw(st.integers(1, items + 3), "chunk")
    count = data.draw(st.integers(1, items), "count")
    tasks = data.draw(st.integers(1, 3), "tasks")
    # Few values, so that many are equal.
    value = st.sampled_from([0.0, 1.0, 2.0, -1.0, np.nan, np.inf, -np.inf])
    row = st.integers(-3, items + 3)
    values = np.array(data.draw(st.lists(st.lists(value, min_size=items, max_size=items), min_size=tasks,
                                         max_size=tasks)), np.float32)
    excluded = np.array(data.draw(st.lists(st.lists(row, min_size=4, max_size=4), min_size=tasks, max_size=tasks)),
                        np.int32)
    best, rows, finite = top_rows(lambda start, size: tf.constant(values)[:, start:start + size], items=items,
                                  count=count, chunk=chunk, excluded=tf.constant(excluded))
    for i, expected in enumerate(expected_rows(values, excluded, count)):
        real = np.isfinite(best[i])
        assert rows[i].numpy()[real].tolist() == expected
        np.testing.assert_array_equal(best[i].numpy()[real], values[i][expected])
        assert real.tolist() == sorted(real.tolist(), reverse=True)
        assert (best[i].numpy()[~real] == -np.inf).all()
    np.testing.assert_array_equal(finite, np.isfinite(values).all(axis=1))


def mmr(relevance, vectors, count, weight):
    """Carbonell and Goldstein's greedy choice, one candidate at a time."""
    left = [i for i in range(len(relevance)) if np.isfinite(relevance[i])]
    if not left:
        return []
    low, high = min(relevance[left]), max(relevance[left])
    scaled = (relevance - low) / (high - low if high > low else 1)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    chosen = []
    while left and len(chosen) < count:
        alike = {i: max((unit[i] @ unit[j] for j in chosen), default=0.0) for i in left}
        best = max(left, key=lambda i: ((1 - weight) * scaled[i] - weight * alike[i], -i))
        chosen.append(best)
        left.remove(best)
    return chosen


@pytest.mark.parametrize("weight", [0.2, 0.5, 1.0])
def test_diversity_is_the_greedy_choice(weight):
    rng = np.random.default_rng(0)
    relevance = -np.sort(-rng.normal(size=(4, 12)), axis=1)
    vectors = rng.normal(size=(4, 12, 3))
    relevance[1, 5:] = -np.inf
    relevance[2] = -np.inf
    relevance[3] = 0.5
    chosen = diversify(tf.constant(relevance), tf.constant(vectors), count=8, weight=weight).numpy()
    for i in range(4):
        expected = mmr(relevance[i], vectors[i], 8, weight)
        assert chosen[i].tolist() == expected + [12] * (8 - len(expected))


def test_no_diversity_keeps_the_order_and_full_diversity_spreads():
    relevance = tf.constant([[3.0, 2.9, 2.8, 0.0]])
    vectors = tf.constant([[[1.0, 0], [1, 0.01], [0, 1], [-1, 0]]])
    assert diversify(relevance, vectors, count=4, weight=0.0).numpy().tolist() == [[0, 1, 2, 3]]
    assert diversify(relevance, vectors, count=3, weight=0.3).numpy().tolist() == [[0, 2, 1]]
    assert diversify(relevance, vectors, count=3, weight=1.0).numpy().tolist()[0][:2] == [0, 3]
