import itertools

import numpy as np
import pytest

from tfmeta.metrics.catalogue_ranks import CatalogueRanks


def enumerate_orders(score, candidate, relevant, gain, k):
    """Mean recall and NDCG over all orders of the candidates that the ties allow."""
    items = [i for i in range(len(score)) if candidate[i]]
    worth = dict(zip(relevant, gain, strict=True))
    discount = 1 / np.log2(np.arange(len(items)) + 2)
    best = sum(g * d for g, d in zip(sorted(gain, reverse=True)[:k], discount, strict=False))
    found = []
    for order in itertools.permutations(items):
        if all(score[a] >= score[b] for a, b in itertools.pairwise(order)):
            top = order[:k]
            dcg = sum(worth.get(i, 0) * d for i, d in zip(top, discount, strict=False))
            found.append((len(set(top) & set(relevant)) / len(relevant), dcg / best))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("seed", range(12))
def test_expectation_over_ties_equals_enumeration(seed):
    rng = np.random.default_rng(seed)
    score, candidate = rng.integers(0, 3, (1, 6)).astype(float), np.ones((1, 6), bool)
    candidate[0, rng.integers(0, 6)] = False
    relevant = rng.permutation(np.flatnonzero(candidate[0]))[:2]
    gain, k = np.array([15.0, 31.0]), int(rng.integers(1, 5))
    for ranks, given in ((CatalogueRanks.of(score, candidate, relevant[None]), score[0]),
                         (CatalogueRanks.chance(candidate, relevant[None]), np.zeros(6))):
        expected = enumerate_orders(given, candidate[0], relevant.tolist(), gain.tolist(), k)
        np.testing.assert_allclose([ranks.recall(k=k)[0], ranks.ndcg(gain[None], k=k)[0]], expected, rtol=1e-12)


def test_perfect_order_is_the_ceiling_and_padding_is_ignored():
    relevant, gain = np.array([[3, 1, -1], [-1, -1, -1]]), np.array([[15.0, 31.0, np.nan], [1.0, 1.0, 1.0]])
    perfect = CatalogueRanks.perfect(relevant, gain)
    np.testing.assert_allclose(perfect.ndcg(gain, k=1), [1.0, np.nan])
    np.testing.assert_allclose(perfect.recall(k=1), [0.5, np.nan])
    np.testing.assert_allclose(perfect.recall(k=5), [1.0, np.nan])
    score = np.array([[0.0, 2.0, 9.0, 1.0], [0.0] * 4])
    ranks = CatalogueRanks.of(score, np.array([[True, True, False, True]] * 2), relevant)
    np.testing.assert_array_equal(ranks.above, [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(ranks.ndcg(gain, k=2), [1.0, np.nan])
