"""One feature of users or items: conversion, and the last value per id."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.data.cleaning.values import to_floats, to_integers, to_strings
from tfmeta.data.feature_schema import FeatureSchema

# Values kept beyond one per id before the older ones are thrown away.
_COMPACT_ROWS = 1 << 18


class FeatureColumn:
    """Collects a feature chunk by chunk and keeps the last value of every id.

    Args:
      feature: what to make of the column.
    """

    def __init__(self, feature: FeatureSchema):
        self.feature = feature
        self._codes: list[np.ndarray] = []
        self._values: list[pa.Array] = []
        self._pending = 0
        self._distinct = 0

    def convert(self, array: pa.Array) -> tuple[pa.Array, np.ndarray]:
        """Converts a source column `[n]`; returns (values with nulls for missing, bad `[n]` bool)."""
        feature, name = self.feature, self.feature.column
        if feature.kind == "multi_categorical":
            return _lists(array, feature), np.zeros(len(array), bool)
        if feature.kind == "dense_vector":
            return _vectors(array, feature)
        if feature.kind == "numeric":
            values, present, good = to_floats(array, name)
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
            nan = np.isnan(values) & good
            bad = present & ~nan & ~np.isfinite(np.where(good, values, np.inf))
            return pa.array(values, mask=~(present & good) | nan | bad), bad
        if feature.dtype == "int64":
            values, present, good = to_integers(array, name)
            return pa.array(values, mask=~good | (values == -1)), present & ~good
        return to_strings(array, name), np.zeros(len(array), bool)

    def add(self, codes: np.ndarray, values: pa.Array, *, skip_missing: bool) -> None:
        """Adds values of ids; a missing one does not replace an earlier value if `skip_missing`."""
        if skip_missing and values.null_count:
            valid = values.is_valid()
            codes, values = codes[valid.to_numpy(zero_copy_only=False)], values.filter(valid)
        codes, values = _last(codes, values)
        self._codes.append(codes)
        self._values.append(values)
        self._pending += len(codes)
        if self._pending > 2 * self._distinct + _COMPACT_ROWS:
            self._compact()

    def _compact(self) -> None:
        codes, values = _last(np.concatenate(self._codes), pa.concat_arrays(self._values))
        self._codes, self._values = [codes], [values]
        self._pending = self._distinct = len(codes)

    def series(self, place: np.ndarray) -> pd.Series:
        """Returns the column `[U]` of `RawData`, id code `c` in row `place[c]`."""
        feature = self.feature
        if self._codes:
            self._compact()
            index = np.full(len(place), -1, np.int64)
            index[place[self._codes[0]]] = np.arange(len(self._codes[0]))
            values = self._values[0].take(pa.array(index, mask=index < 0))
        else:
            values = pa.nulls(len(place), _TYPES[feature.kind, feature.dtype])
        if feature.kind == "multi_categorical":
            return _objects([v if v is not None else [] for v in values.to_pylist()])
        if feature.kind == "dense_vector":
            matrix = np.full((len(values), feature.length), np.nan, np.float32)
            matrix[values.is_valid().to_numpy(zero_copy_only=False)] = np.asarray(
                values.flatten(), np.float32).reshape(-1, feature.length)
            return _objects(list(matrix))
        filled = values.fill_null(pa.scalar(feature.missing, values.type))
        return pd.Series(filled.to_pandas(), dtype="str" if feature.dtype == "string" else feature.dtype)


_TYPES = {("categorical", "string"): pa.string(), ("categorical", "int64"): pa.int64(),
          ("multi_categorical", "string"): pa.list_(pa.string()), ("numeric", "float32"): pa.float32(),
          ("text", "string"): pa.string(), ("dense_vector", "float32"): pa.list_(pa.float32())}


def _objects(values: list) -> pd.Series:
    column = np.empty(len(values), object)
    for i, value in enumerate(values):  # assigned at once, equal lengths would become a matrix
        column[i] = value
    return pd.Series(column, dtype=object)


def _last(codes: np.ndarray, values: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Keeps the last entry of every code."""
    distinct, index = np.unique(codes[::-1], return_index=True)
    return distinct, values.take(pa.array(len(codes) - 1 - index))


def _is_list(dtype: pa.DataType) -> bool:
    return pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)


def _split(array: pa.Array, feature: FeatureSchema) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Returns (flat values, row of each `[m]`, present `[n]`) of a column of lists or separated strings."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if not _is_list(array.type):
        strings = to_strings(array, feature.column)
        if feature.kind == "dense_vector":
            strings = pc.utf8_trim(strings, "[] \t\r\n")
            if feature.separator.strip() != feature.separator or feature.separator == " ":
                # Aligned vectors have several spaces between numbers.
                strings = pc.replace_substring_regex(strings, r"\s+", " ")
        array = pc.split_pattern(strings, feature.separator)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    return pc.list_flatten(array), parents, present


def _lists(array: pa.Array, feature: FeatureSchema) -> pa.Array:
    flat, parents, present = _split(array, feature)
    flat = pc.utf8_trim_whitespace(to_strings(flat, feature.column))
    keep = pc.fill_null(pc.not_equal(flat, ""), False).to_numpy(zero_copy_only=False)
    flat, parents = flat.filter(pa.array(keep)), parents[keep]
    counts = np.bincount(parents, minlength=len(present)).astype(np.int64)
    starts = np.cumsum(counts) - counts
    within = np.arange(len(parents)) - starts[parents] < feature.length
    counts = np.minimum(counts, feature.length)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat.filter(pa.array(within)),
                                    mask=pa.array(counts == 0))


def _vectors(array: pa.Array, feature: FeatureSchema) -> tuple[pa.Array, np.ndarray]:
    flat, parents, present = _split(array, feature)
    values, there, good = to_floats(flat, feature.column)
    spelt = good | ~there
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    good &= np.isfinite(values)
    lengths = np.bincount(parents, minlength=len(present))
    whole = np.bincount(parents[good], minlength=len(present)) == feature.length
    fine = present & whole & (lengths == feature.length)
    nothing = np.bincount(parents[np.isnan(values) & spelt], minlength=len(present)) == lengths
    bad = present & ~fine & ~(nothing & _is_list(array.type))  # an empty list or one of NaN: missing
    offsets = np.concatenate([[0], np.cumsum(np.where(fine, feature.length, 0))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[fine[parents]]),
                                    mask=pa.array(~fine)), bad

