"""Full-catalogue metrics per task, for models that retrieve.

`retrieved [T, K]` are item rows, best first, -1 where fewer came back; `relevant [T, R]` are the held-out item rows
that count, -1 in padding. Values are `[T]` float64, NaN where nothing is relevant.
"""

import numpy as np


def catalogue_recall(retrieved: np.ndarray, relevant: np.ndarray, *, k: int) -> np.ndarray:
    """Relevant items among the first k of the whole catalogue, divided by all relevant ones."""
    found = _position(retrieved[:, :k], relevant) >= 0
    return _ratio(found.sum(axis=1), (relevant >= 0).sum(axis=1))


def catalogue_ndcg(retrieved: np.ndarray, relevant: np.ndarray, gain: np.ndarray, *, k: int) -> np.ndarray:
    """NDCG at k over the whole catalogue; `gain [T, R]` of the relevant items (2^label - 1), everything else 0."""
    position = _position(retrieved[:, :k], relevant)
    gain = np.where(relevant >= 0, gain, 0.0).astype(np.float64)
    value = np.where(position >= 0, gain / np.log2(np.maximum(position, 0) + 2.0), 0.0).sum(axis=1)
    best = -np.sort(-gain, axis=1)[:, :k]
    return _ratio(value, (best / np.log2(np.arange(best.shape[1]) + 2.0)).sum(axis=1))


def catalogue_hit(retrieved: np.ndarray, relevant: np.ndarray, *, k: int) -> np.ndarray:
    """Whether any of the first k of the whole catalogue is relevant."""
    found = (_position(retrieved[:, :k], relevant) >= 0).any(axis=1)
    return np.where((relevant >= 0).any(axis=1), found.astype(np.float64), np.nan)


def _position(retrieved: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """`[T, R]` position of each relevant item among the retrieved, -1 where it is not there."""
    same = (retrieved[:, None, :] == relevant[:, :, None]) & (relevant >= 0)[:, :, None]
    return np.where(same.any(axis=2), same.argmax(axis=2) if same.shape[2] else 0, -1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1.0), np.nan)
