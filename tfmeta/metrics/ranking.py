"""List metrics per task: `score [T, Q]`, `label [T, Q]`, `length [T]` -> `[T]` float64.

All are expectations over the random order of tied items, in closed form (see `RankedList`), ignore padding, NaN in
it included, and are NaN where they are undefined. A list shorter than `k` is cut where it ends. `score` may be a
`RankedList` made from the same queries, so that the sort is done once for many metrics.
"""

import numpy as np
from scipy.special import gammaln

from tfmeta.errors import ConfigError
from tfmeta.metrics.ranked_list import RankedList


def auc(score, label=None, length=None, *, threshold: float) -> np.ndarray:
    """Probability that a relevant item scores above an irrelevant one, ties one half; NaN without both."""
    ranked = _ranked(score, label, length)
    relevant = ranked.relevant(threshold)
    positives = relevant.sum(axis=1).astype(np.float64)
    negatives = ranked.length - positives
    # Mid-rank from the bottom, counted from 1 (Mann and Whitney, 1947).
    middle = ranked.length[:, None] - (ranked.start + ranked.stop - 1) / 2.0
    wins = np.where(relevant, middle, 0.0).sum(axis=1) - positives * (positives + 1) / 2.0
    return _divide(wins, positives * negatives)


def ndcg(score, label=None, length=None, *, k: int) -> np.ndarray:
    """NDCG at k with gain `2^label - 1` (Burges et al., "Learning to rank using gradient descent", 2005).

    The discount is `1 / log2(position + 2)`; NaN where no item has a gain.
    """
    ranked = _ranked(score, label, length)
    # NDCG is a ratio: gains are scaled by 2^-max, which keeps weights of a thousand and more finite.
    top = ranked.label.max(axis=1, keepdims=True, initial=0.0)
    return _ndcg(ranked, np.exp2(ranked.label - top) - np.exp2(-top), k)


def ndcg_linear(score, label=None, length=None, *, k: int) -> np.ndarray:
    """NDCG at k with the label itself as gain (Jarvelin and Kekalainen, 2002); NaN where no item has a gain."""
    ranked = _ranked(score, label, length)
    return _ndcg(ranked, ranked.label, k)


def precision(score, label=None, length=None, *, k: int, threshold: float) -> np.ndarray:
    """Relevant items among the first k, divided by min(k, Q); NaN for an empty query."""
    ranked = _ranked(score, label, length)
    return _divide(_hits(ranked, k, threshold), np.minimum(k, ranked.length))


def recall(score, label=None, length=None, *, k: int, threshold: float) -> np.ndarray:
    """Relevant items among the first k, divided by all relevant ones; NaN where there is none."""
    ranked = _ranked(score, label, length)
    return _divide(_hits(ranked, k, threshold), ranked.relevant(threshold).sum(axis=1))


def f1(score, label=None, length=None, *, k: int, threshold: float) -> np.ndarray:
    """Harmonic mean of precision and recall of the same order, `2 hits / (min(k, Q) + relevant)`.

    NaN where there is no relevant item.
    """
    ranked = _ranked(score, label, length)
    relevant = ranked.relevant(threshold).sum(axis=1)
    size = np.where(relevant > 0, np.minimum(k, ranked.length) + relevant, 0)
    return _divide(2.0 * _hits(ranked, k, threshold), size)


def hit(score, label=None, length=None, *, k: int, threshold: float) -> np.ndarray:
    """Probability that at least one of the first k is relevant; NaN where there is no relevant item."""
    ranked = _ranked(score, label, length)
    _check_k(k)
    relevant = ranked.relevant(threshold)
    found = (relevant & (ranked.stop <= k)).any(axis=1)
    # At most one group straddles position k; its first m places are drawn without replacement.
    straddles = ranked.real & (ranked.start < k) & (ranked.stop > k)
    size = straddles.sum(axis=1)
    good = (straddles & relevant).sum(axis=1)
    places = np.where(size > 0, k - np.where(straddles, ranked.start, 0).max(axis=1, initial=0), 0)
    missed = np.exp(_log_choose(size - good, places) - _log_choose(size, places))
    value = np.where(found, 1.0, np.where(good > 0, 1.0 - missed, 0.0))
    return np.where(relevant.any(axis=1), value, np.nan)


def mrr(score, label=None, length=None, *, threshold: float) -> np.ndarray:
    """Reciprocal of the position, counted from 1, of the first relevant item; NaN where there is none."""
    ranked = _ranked(score, label, length)
    relevant = ranked.relevant(threshold)
    any_relevant = relevant.any(axis=1)
    # All that matters is the first group with a relevant item.
    first = np.argmax(relevant, axis=1)[:, None]
    start = np.take_along_axis(ranked.start, first, axis=1)
    size = np.take_along_axis(ranked.stop, first, axis=1) - start
    good = (relevant & (ranked.start == start)).sum(axis=1, keepdims=True)
    place = np.arange(1, relevant.shape[1] + 1)[None, :]
    # P(the first of `good` among `size` is at `place`) = C(size - place, good - 1) / C(size, good).
    log_probability = _log_choose(size - place, good - 1) - _log_choose(size, good)
    value = (np.exp(log_probability) / (start + place)).sum(axis=1)
    return np.where(any_relevant, value, np.nan)


def _ranked(score, label, length) -> RankedList:
    return score if isinstance(score, RankedList) else RankedList.of(score, label, length)


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigError(f"The cut-off k of a list metric requires at least 1, received {k!r}.")


def _hits(ranked: RankedList, k: int, threshold: float) -> np.ndarray:
    _check_k(k)
    inside = ranked.expected_weight(np.arange(ranked.label.shape[1]) < k)
    return np.where(ranked.relevant(threshold), inside, 0.0).sum(axis=1)


def _ndcg(ranked: RankedList, gain: np.ndarray, k: int) -> np.ndarray:
    _check_k(k)
    gain = np.where(ranked.real, gain, 0.0)
    position = np.arange(gain.shape[1])
    discount = np.where(position < k, 1.0 / np.log2(position + 2.0), 0.0)
    best = -np.sort(-gain, axis=1) @ discount
    return _divide((gain * ranked.expected_weight(discount)).sum(axis=1), best)


def _log_choose(n: np.ndarray, r: np.ndarray) -> np.ndarray:
    """log C(n, r), -inf where the choice is impossible."""
    n, r = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(r, np.float64))
    possible = (n >= r) & (r >= 0)
    n, r = np.where(possible, n, 0.0), np.where(possible, r, 0.0)
    return np.where(possible, gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1), -np.inf)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), np.nan)
