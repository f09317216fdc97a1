"""Similarity of items in one content feature."""

import dataclasses
import re
from typing import Self

import numpy as np
import pandas as pd
import scipy.sparse

from tfmeta.data.feature import Feature

_WORD = re.compile(r"[^\W_]{2,}")
# Width of the bell for numbers, in standard deviations of the fitted items.
_BANDWIDTH = 0.4


@dataclasses.dataclass(frozen=True)
class ContentKernel:
    """A positive semi-definite similarity, 1 on average between a fitted item and itself.

    Categories, lists and texts are vectors of their values weighted by rarity (TF-IDF with counts of 0 and 1; texts
    are brought to length 1, because a long plot is no more similar to everything), vectors are brought to length 1,
    and their similarity is the inner product. Numbers are compared by a Gaussian bell. Missing values are similar to
    nothing.

    A value that no fitted item has weighs as much as one that a single fitted item has: it makes an item longer, and
    so less certain, but similar to none. Both are the same to a leave-one-out prediction, so that new items are
    treated as fitted ones are.

    Attributes:
      feature: which column.
      weight: value -> its weight, for categories, lists and texts.
      unseen: weight of any other value.
      column: value -> its column.
      scale: factor of the vectors; for numbers the bell's width in raw units.
    """

    feature: Feature
    weight: dict[str | int, float]
    unseen: float
    column: dict[str | int, int]
    scale: float

    @classmethod
    def fit(cls, values: pd.Series, *, feature: Feature) -> Self:
        """Fits vocabulary and scale.

        Args:
          values: raw values of the fitted items.
          feature: their feature.
        """
        if feature.kind == "numeric":
            deviation = float(np.nanstd(values.to_numpy(np.float64))) if values.notna().any() else 0.0
            return cls(feature, {}, 0.0, {}, _BANDWIDTH * deviation or 1.0)
        if feature.kind == "dense_vector":
            return cls(feature, {}, 0.0, {}, 1.0)
        counts = pd.Series([v for cell in values for v in _values(cell, feature)], dtype=object).value_counts()
        counts = counts.sort_index()
        weight = dict(zip(counts.index, _rarity(counts.to_numpy(), len(values)), strict=True))
        kernel = cls(feature, weight, float(_rarity(1, len(values))), {v: i for i, v in enumerate(weight)}, 1.0)
        if feature.kind == "text":
            return kernel
        mean = kernel.encode(values).power(2).sum() / max(1, len(values))
        return dataclasses.replace(kernel, scale=1.0 / np.sqrt(mean) if mean > 0 else 1.0)

    def encode(self, values: pd.Series) -> scipy.sparse.csr_matrix | np.ndarray:
        """Returns what `between` and `own` take: `[N, V + 1]` sparse (the last column: all unseen values), `[N, D]`."""
        if self.feature.kind == "numeric":
            return values.to_numpy(np.float64)[:, None] / self.scale
        if self.feature.kind == "dense_vector":
            rows = np.array(values.to_list(), np.float64).reshape(-1, self.feature.length)
            rows = np.nan_to_num(rows, posinf=0.0, neginf=0.0)
            return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        cells = [_values(cell, self.feature) for cell in values]
        flat, last = [v for cell in cells for v in cell], len(self.column)
        # Squares, because those of several unseen values add up in their column.
        squares = scipy.sparse.csr_matrix(
            ([(self.scale * self.weight.get(v, self.unseen)) ** 2 for v in flat],
             [self.column.get(v, last) for v in flat], np.append(0, np.cumsum([len(cell) for cell in cells]))),
            shape=(len(cells), last + 1), dtype=np.float64)
        squares.sum_duplicates()
        if self.feature.kind == "text":
            total = np.asarray(squares.sum(axis=1)).ravel()
            squares = scipy.sparse.diags_array(1 / np.maximum(total, 1e-12)) @ squares
        return squares.sqrt()

    def between(self, left, right) -> np.ndarray:
        """Returns the similarities `[N, M]` float64 of encoded items and encoded fitted items."""
        if self.feature.kind == "numeric":
            known = np.isfinite(left) & np.isfinite(right.T)
            return np.where(known, np.exp(-0.5 * np.square(np.where(known, left - right.T, 0.0))), 0.0)
        product = left @ right.T
        return product.toarray() if scipy.sparse.issparse(product) else product

    def own(self, encoded) -> np.ndarray:
        """Returns the similarity `[N]` float64 of each encoded item with itself."""
        if self.feature.kind == "numeric":
            return np.isfinite(encoded[:, 0]).astype(np.float64)
        squares = encoded.power(2) if scipy.sparse.issparse(encoded) else np.square(encoded)
        return np.asarray(squares.sum(axis=1)).ravel()


def _rarity(count, items: int):
    return np.log((1 + items) / (1 + count)) + 1


def _values(cell, feature: Feature) -> list:
    """Returns the distinct values of one cell, in order."""
    if feature.kind == "text":
        found = _WORD.findall(str(cell).lower()) if isinstance(cell, str) else []
    elif feature.kind == "multi_categorical":
        found = [] if cell is None or np.isscalar(cell) else [v for v in cell if v != feature.missing]
    else:
        found = [] if cell == feature.missing or pd.isna(cell) else [cell]
    return list(dict.fromkeys(found))
