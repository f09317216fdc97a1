"""Sparse design matrices from raw feature columns."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse

from tfmeta.data.feature import Feature

# Fewer items than that do not make a word a column.
_LEAST_WORD_COUNT = 5


def content_matrix(frame: pd.DataFrame, features: Sequence[Feature], *, fitted: np.ndarray) -> scipy.sparse.csr_matrix:
    """Returns `[len(frame) + 1, D]` float64; the last row is a content-free item, all zeros.

    Categories become indicators of the fitted vocabulary (a list of n values 1 / sqrt(n) each, so that long
    lists do not weigh more), texts indicators of the commoner words, numbers and vectors their standardised
    values. Missing and unknown values are zeros.

    Args:
      frame: raw features, one row an item.
      features: columns to use; categories and statistics are those of the specification.
      fitted: `[len(frame)]` bool, the rows of training items, from which the words of texts are chosen.
    """
    blocks = [_block(frame[f.name], f, fitted) for f in features]
    rows = len(frame) + 1
    if not blocks:
        return scipy.sparse.csr_matrix((rows, 0))
    matrix = scipy.sparse.hstack(blocks, format="csr")
    return scipy.sparse.vstack([matrix, scipy.sparse.csr_matrix((1, matrix.shape[1]))], format="csr")


def _block(column: pd.Series, feature: Feature, fitted: np.ndarray) -> scipy.sparse.csr_matrix:
    if feature.kind in ("numeric", "dense_vector"):
        return _numbers(column, feature)
    if feature.kind == "text":
        lists = column.fillna("").str.lower().str.findall(r"[^\W\d_]{3,}").map(set).map(sorted)
        words = lists[fitted].explode().value_counts()
        return _indicators(lists, words.index[words >= _LEAST_WORD_COUNT].sort_values())
    if feature.kind == "categorical":
        return _indicators(column.map(lambda value: [value]), feature.vocabulary)
    return _indicators(column, feature.vocabulary)


def _numbers(column: pd.Series, feature: Feature) -> scipy.sparse.csr_matrix:
    values = np.stack(column.to_list()) if feature.kind == "dense_vector" else column.to_numpy()[:, None]
    values = values.astype(np.float64)
    if feature.mean:
        values = (values - np.asarray(feature.mean)) / np.where(np.asarray(feature.std) > 0, feature.std, 1.0)
    return scipy.sparse.csr_matrix(np.where(np.isfinite(values), values, 0.0))


def _indicators(lists: pd.Series, vocabulary) -> scipy.sparse.csr_matrix:
    length = lists.map(len).to_numpy()
    row = np.repeat(np.arange(len(lists)), length)
    values = [value for values in lists for value in values]
    code = pd.Index(vocabulary).get_indexer(pd.Index(values, dtype=object)) if values else np.zeros(0, int)
    known = code >= 0
    row, code = row[known], code[known]
    size = np.bincount(row, minlength=len(lists))
    shape = (len(lists), len(vocabulary))
    return scipy.sparse.csr_matrix((1.0 / np.sqrt(size[row]), (row, code)), shape=shape)
