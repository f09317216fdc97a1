"""The values of a feature in two windows as cells of one histogram."""

import itertools
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature

MISSING = "(missing)"
MAX_BINS = 10
_UNITS_A_BIN = 10
_TOKEN = re.compile(r"[^\W_]+(?:_[^\W_]+)*")

Histogram = tuple[list[str], np.ndarray, np.ndarray]


def feature_histogram(feature: Feature, windows: Iterable[tuple[pd.Series, np.ndarray]]) -> Histogram:
    """Returns (names of the cells, `[C]` weight in the reference, `[C]` weight in the current window).

    A value that occurs in either window is a cell; a number is a cell of quantiles of the reference. Values of a list
    and words of a text share the weight of their entity. What is missing has a cell of its own: a feature that stops
    arriving has changed.

    Args:
      feature: a feature of any kind but dense_vector.
      windows: reference and current: (`[E]` values, `[E]` float64 weights of the entities).
    """
    pairs = [(values.to_numpy(object), weights) for values, weights in windows]
    if feature.kind == "numeric":
        numbers = [(pd.to_numeric(pd.Series(v), errors="coerce").to_numpy(np.float64), w) for v, w in pairs]
        return number_histogram(numbers)
    split = {"categorical": _single, "multi_categorical": _several, "text": _words}[feature.kind]
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
    return _spread([list(dict.fromkeys(str(x) for x in v if x is not None and x != ""))
                    if isinstance(v, list | tuple | np.ndarray) else [] for v in values], weights)


def _words(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _spread([list(dict.fromkeys(_TOKEN.findall(v.lower()))) if isinstance(v, str) else [] for v in values],
                   weights)


def _spread(lists: list[list[str]], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares the weight of an entity among its values."""
    lists = [v or [MISSING] for v in lists]
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    flat = np.array([x for v in lists for x in v], object)
    return flat, np.repeat(weights / np.maximum(lengths, 1), lengths)
