"""The values of a feature in two windows as cells of one histogram."""

import itertools
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature

MISSING = "(missing)"
MAX_BINS, MAX_WORDS = 10, 100
_UNITS_A_BIN = 10
_TOKEN = re.compile(r"[^\W_]+(?:_[^\W_]+)*")

Histogram = tuple[list[str], np.ndarray, np.ndarray]


def feature_histogram(feature: Feature, windows: Iterable[tuple[pd.Series, np.ndarray]]) -> Histogram:
    """Returns (names of the cells, `[C]` weight in the reference, `[C]` weight in the current window).

    A value that occurs in either window is a cell; a number is a cell of quantiles of the reference. The values of a
    list share the weight of their entity. What is missing has a cell of its own: a feature that stops arriving has
    changed.

    Args:
      feature: categorical, multi_categorical or numeric.
      windows: reference and current: (`[E]` values, `[E]` float64 weights of the entities).
    """
    pairs = [(values.to_numpy(object), weights) for values, weights in windows]
    if feature.kind == "numeric":
        numbers = [(pd.to_numeric(pd.Series(v), errors="coerce").to_numpy(np.float64), w) for v, w in pairs]
        return number_histogram(numbers)
    split = {"categorical": _single, "multi_categorical": _several}[feature.kind]
    return _value_histogram([split(values, weights) for values, weights in pairs])


def number_histogram(windows: list[tuple[np.ndarray, np.ndarray]]) -> Histogram:
    """Returns the histogram of numbers over quantiles of the reference; NaN and infinity are missing.

    There are at most `MAX_BINS` bins, and fewer where a window has less than 10 units a bin. A bin holds its upper
    edge.

    Args:
      windows: reference and current: (`[E]` float64 values, `[E]` float64 weights).
    """
    finite = [(v[np.isfinite(v)], w[np.isfinite(v)]) for v, w in windows]
    least = min(float(w.sum()) for _, w in finite)
    bins = int(np.clip(least // _UNITS_A_BIN, 2, MAX_BINS))
    edges = _quantiles(*finite[0], np.arange(1, bins) / bins)
    names = [MISSING, *_bin_names(edges)]
    counts = []
    for (values, weights), (all_values, all_weights) in zip(finite, windows, strict=True):
        cells = np.bincount(np.searchsorted(edges, values, side="left"), weights=weights, minlength=len(edges) + 1)
        counts.append(np.concatenate([[all_weights[~np.isfinite(all_values)].sum()], cells]))
    return names, counts[0], counts[1]


def word_weights(windows: Iterable[tuple[pd.Series, np.ndarray]]) -> Histogram:
    """Returns (words, `[W]` weight of the texts of the reference that have each, the same of the current window).

    The words are the most frequent ones of both windows together, at most `MAX_WORDS`; `MISSING`, for texts without a
    word, is the first. A text has several words, so these are no cells of one histogram.

    Args:
      windows: reference and current: (`[E]` texts, `[E]` float64 weights).
    """
    windows = [(values.to_numpy(object), weights) for values, weights in windows]
    flat, weight, side = [], [], []
    for number, (values, weights) in enumerate(windows):
        words = [list(dict.fromkeys(_TOKEN.findall(v.lower()))) or [MISSING] if isinstance(v, str) else [MISSING]
                 for v in values]
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        flat += [word for text in words for word in text]
        weight.append(np.repeat(weights, lengths))
        side.append(np.full(lengths.sum(), number))
    codes, names = pd.factorize(np.array([MISSING, *flat], object))
    counts = np.zeros((2, len(names)))
    np.add.at(counts, (np.concatenate(side), codes[1:]), np.concatenate(weight))
    total = np.array([max(float(weights.sum()), 1e-12) for _, weights in windows])
    pooled = counts.sum(axis=0) / total.sum()
    pooled[0] = np.inf
    chosen = np.argsort(-pooled, kind="stable")[:MAX_WORDS + 1]
    return [str(names[i]) for i in chosen], counts[0, chosen], counts[1, chosen]


def level_histogram(windows: list[tuple[np.ndarray, np.ndarray]]) -> Histogram:
    """Returns the histogram of numbers that are levels, such as stars: a cell for each."""
    levels = np.unique(np.concatenate([v for v, _ in windows]))
    counts = [np.bincount(np.searchsorted(levels, v), weights=w, minlength=len(levels)) for v, w in windows]
    return [f"{level:g}" for level in levels], counts[0], counts[1]


def _quantiles(values: np.ndarray, weights: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns distinct quantiles of a weighted sample, ascending."""
    if not len(values):
        return np.zeros(0)
    order = np.argsort(values, kind="stable")
    place = np.searchsorted(np.cumsum(weights[order]), at * weights.sum() * (1 - 1e-12))
    return np.unique(values[order][np.minimum(place, len(values) - 1)])


def _bin_names(edges: np.ndarray) -> list[str]:
    if not len(edges):
        return ["any"]
    inner = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
    return [f"up to {edges[0]:.4g}", *inner, f"above {edges[-1]:.4g}"]


def _value_histogram(windows: list[tuple[np.ndarray, np.ndarray]]) -> Histogram:
    sizes = [len(values) for values, _ in windows]
    codes, names = pd.factorize(np.concatenate([values for values, _ in windows]))
    parts = np.split(codes, [sizes[0]])
    counts = [np.bincount(part, weights=weights, minlength=len(names))
              for part, (_, weights) in zip(parts, windows, strict=True)]
    return [str(name) for name in names], counts[0], counts[1]


def _single(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    texts = pd.Series(values, dtype=object)
    missing = texts.isna() | texts.isin(["", -1])
    return np.where(missing, MISSING, texts.map(_text)).astype(object), weights


def _text(value) -> str:
    # A column of whole numbers with gaps is one of floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _several(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lists = [list(dict.fromkeys(str(x) for x in v if x is not None and x != "")) or [MISSING]
             if isinstance(v, list | tuple | np.ndarray) else [MISSING] for v in values]
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.array([x for v in lists for x in v], object), np.repeat(weights / np.maximum(lengths, 1), lengths)
