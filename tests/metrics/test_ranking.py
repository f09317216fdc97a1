"""List metrics against enumeration of every order that the ties allow."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.errors import ConfigError, DataError
from tfmeta.metrics import ranking
from tfmeta.metrics.ranked_list import RankedList

THRESHOLD = 4.0


def of_order(name, labels, k):
    """The metric of one strict order, written from its definition."""
    n, relevant = len(labels), [y >= THRESHOLD for y in labels]
    count, top = sum(relevant), relevant[:k]
    if name == "auc":
        if not 0 < count < n:
            return np.nan
        pairs = [(i, j) for i in range(n) for j in range(n) if relevant[i] and not relevant[j]]
        return np.mean([i < j for i, j in pairs])
    if name == "precision":
        return sum(top) / min(k, n)
    if name in ("ndcg", "ndcg_linear"):
        gain = [2.0**y - 1 for y in labels] if name == "ndcg" else list(labels)
        dcg = lambda g: sum(v / np.log2(i + 2) for i, v in enumerate(g[:k]))  # noqa: E731
        best = dcg(sorted(gain, reverse=True))
        return dcg(gain) / best if best > 0 else np.nan
    if not count:
        return np.nan
    if name == "recall":
        return sum(top) / count
    if name == "hit":
        return float(any(top))
    if name == "mrr":
        return 1.0 / (relevant.index(True) + 1)
    p, r = sum(top) / min(k, n), sum(top) / count
    return 2 * p * r / (p + r) if p + r else 0.0


def enumerate_orders(name, scores, labels, k):
    values = []
    for order in itertools.permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            values.append(of_order(name, [labels[i] for i in order], k))
    return np.mean(values)


def call(name, score, label, length, k):
    options = {} if name.startswith("ndcg") else {"threshold": THRESHOLD}
    if name not in ("auc", "mrr"):
        options["k"] = k
    return getattr(ranking, name)(score, label, length, **options)


NAMES = ("auc", "ndcg", "ndcg_linear", "precision", "recall", "f1", "hit", "mrr")
QUERY = st.lists(st.tuples(st.sampled_from([0.0, 1.5, 2.0, -np.inf]), st.sampled_from([0.0, 1.0, 3.0, 4.0, 5.0])),
                 min_size=1, max_size=6)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(query=QUERY, k=st.integers(1, 7))
def test_expectation_over_tie_orders_equals_enumeration(name, query, k):
    scores, labels = zip(*query, strict=True)
    expected = enumerate_orders(name, scores, labels, k)
    got = call(name, np.array([scores]), np.array([labels]), np.array([len(scores)]), k)
    np.testing.assert_allclose(got, [expected], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_padding_order_and_monotone_transforms_change_nothing(name, seed):
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 5, (6, 8)).astype(float)
    label = rng.integers(1, 6, (6, 8)).astype(float)
    length = rng.integers(0, 9, 6)
    padding = np.arange(8)[None, :] >= length[:, None]
    plain = call(name, score, label, length, 3)
    dirty = [np.where(padding, fill, x) for fill, x in ((np.nan, score), (np.inf, label))]
    np.testing.assert_array_equal(call(name, *dirty, length, 3), plain)
    np.testing.assert_array_equal(call(name, np.pad(score, ((0, 0), (0, 5)), constant_values=np.nan),
                                       np.pad(label, ((0, 0), (0, 5)), constant_values=np.nan), length, 3), plain)
    np.testing.assert_allclose(call(name, np.exp(score) * 3 - 7, label, length, 3), plain, rtol=1e-13)
    order = np.argsort(np.where(padding, 2.0, rng.random(padding.shape)), axis=1)
    np.testing.assert_allclose(
        call(name, np.take_along_axis(score, order, 1), np.take_along_axis(label, order, 1), length, 3), plain,
        rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_ties_are_the_mean_of_random_orders(name):
    rng = np.random.default_rng(3)
    label = np.tile(rng.integers(1, 6, (4, 10)).astype(float), (5000, 1))
    length = np.full(len(label), 10)
    random = call(name, rng.random(label.shape), label, length, 5).reshape(5000, 4).mean(axis=0)
    tied = call(name, np.zeros(label.shape), label, length, 5)[:4]
    np.testing.assert_allclose(random, tied, atol=0.015)


def test_hand_derived_values():
    score, label, length = np.array([[3.0, 2.0, 1.0]]), np.array([[1.0, 5.0, 4.0]]), np.array([3])
    dcg = 1 + 31 / np.log2(3) + 15 / 2
    best = 31 + 15 / np.log2(3) + 1 / 2
    np.testing.assert_allclose(ranking.ndcg(score, label, length, k=3), dcg / best)
    np.testing.assert_allclose(ranking.auc(score, label, length, threshold=4), 0.0)
    np.testing.assert_allclose(ranking.mrr(score, label, length, threshold=4), 0.5)
    np.testing.assert_allclose(ranking.f1(score, label, length, k=2, threshold=4), 0.5)


def test_large_weights_keep_ndcg_finite():
    value = ranking.ndcg(np.array([[0.0, 1.0]]), np.array([[5000.0, 4999.0]]), np.array([2]), k=2)
    expected = (0.5 + 1 / np.log2(3)) / (1 + 0.5 / np.log2(3))
    np.testing.assert_allclose(value, expected)


def test_empty_query_and_single_class_are_undefined():
    score, label = np.zeros((2, 3)), np.array([[np.nan] * 3, [5.0, 5.0, 4.0]])
    length = np.array([0, 3])
    assert np.isnan(ranking.auc(score, label, length, threshold=4)).all()
    assert np.isnan(ranking.precision(score, label, length, k=2, threshold=4)[0])


def test_nan_score_is_refused_with_its_place():
    with pytest.raises(DataError, match="task 1, item 2"):
        ranking.auc(np.array([[0, 1, 2], [0, 1, np.nan]]), np.ones((2, 3)), np.array([3, 3]), threshold=1)
    with pytest.raises(DataError, match=r"\[T, Q\]"):
        RankedList.of(np.zeros((2, 3)), np.zeros((2, 4)), np.array([3, 3]))
    with pytest.raises(ConfigError, match="at least 1"):
        ranking.ndcg(np.zeros((1, 2)), np.ones((1, 2)), np.array([2]), k=0)
