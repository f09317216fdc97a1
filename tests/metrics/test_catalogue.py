import numpy as np

from tfmeta.metrics import catalogue

RETRIEVED = np.array([[7, 3, 9, 1], [2, -1, -1, -1], [5, 6, 7, 8]])
RELEVANT = np.array([[3, 1, 4], [2, -1, -1], [-1, -1, -1]])


def test_recall_ndcg_and_hit_by_hand():
    np.testing.assert_allclose(catalogue.catalogue_recall(RETRIEVED, RELEVANT, k=4), [2 / 3, 1.0, np.nan])
    np.testing.assert_allclose(catalogue.catalogue_recall(RETRIEVED, RELEVANT, k=2), [1 / 3, 1.0, np.nan])
    np.testing.assert_allclose(catalogue.catalogue_hit(RETRIEVED, RELEVANT, k=1), [0.0, 1.0, np.nan])
    gain = np.array([[15.0, 31.0, 15.0], [15.0, 0, 0], [0, 0, 0]])
    best = 31 + 15 / np.log2(3) + 15 / 2
    got = 15 / np.log2(3) + 31 / np.log2(5)
    np.testing.assert_allclose(catalogue.catalogue_ndcg(RETRIEVED, RELEVANT, gain, k=4), [got / best, 1.0, np.nan])
