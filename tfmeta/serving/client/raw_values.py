"""Python, numpy or pandas values of one feature as the array that a request carries. Needs no pandas."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmeta.data.feature import Feature
from tfmeta.errors import DataError

_DTYPES = {"string": np.object_, "int64": np.int64, "float32": np.float32}


def missing_array(feature: Feature, count: int) -> np.ndarray:
    """Returns `[count, *raw_shape]` of the feature's missing value."""
    array = np.empty((count, *feature.raw_shape), _DTYPES[feature.dtype])
    array[...] = feature.missing
    return array


def raw_values(values: Sequence | np.ndarray, feature: Feature, *, where: str) -> np.ndarray:
    """Returns `[N, *raw_shape]` in the feature's raw dtype; None, NaN and pandas' NA become its missing value.

    Args:
      values: N values: a list, an array, or anything with `to_numpy`. Lists and vectors are one list a value, or an
        array `[N, length]`; lists longer than the feature's length are cut.
      feature: whose values they are.
      where: what they are, for messages, such as `candidates`.

    Raises:
      DataError: if a value is not of the feature's type; it names the row.
    """
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if feature.kind == "dense_vector":
        return _vectors(values, feature, where)
    if feature.kind == "multi_categorical":
        return _lists(values, feature, where)
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"Feature '{feature.name}' of {where} requires one value a row, received an array of shape "
                        f"{values.shape}.")
    return _scalars(values, feature, where)


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return value != value
    return type(value).__name__ in ("NAType", "NaTType")


def _scalars(values, feature: Feature, where: str) -> np.ndarray:
    if feature.dtype == "string":
        return _strings(values, feature, where)
    if not isinstance(values, np.ndarray) and all(type(v) in (int, float) for v in values):
        values = np.array(values, np.float64 if any(type(v) is float for v in values) else np.int64) if (
            _fits(values)) else np.array(values, object)
    kind = values.dtype.kind if isinstance(values, np.ndarray) else "O"
    if feature.dtype == "float32":
        if kind in "fiub":
            with np.errstate(over="ignore"):
                return values.astype(np.float32)
        return _numbers(values, feature, where)
    if kind in "iu" and not (kind == "u" and values.size and values.max() > np.iinfo(np.int64).max):
        return values.astype(np.int64)
    array = np.empty(len(values), np.int64)
    for row, value in enumerate(values):
        array[row] = _integer(value, feature, where, row)
    return array


def _fits(values) -> bool:
    return all(-2**63 <= v < 2**63 for v in values if type(v) is int)


def _strings(values, feature: Feature, where: str) -> np.ndarray:
    array = np.empty(len(values), np.object_)
    if isinstance(values, np.ndarray) and values.dtype.kind in "US":
        array[:] = values.tolist()
    elif isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        array[:] = [str(v) for v in values.tolist()]
    else:
        array[:] = [v if type(v) is str else _string(v, feature, where, row) for row, v in enumerate(values)]
    return array


def _string(value, feature: Feature, where: str, row: int) -> str | bytes:
    if isinstance(value, str | bytes):
        return value
    if is_missing(value):
        return ""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    raise _wrong(feature, where, row, "text", value)


def _numbers(values, feature: Feature, where: str) -> np.ndarray:
    array = np.empty(len(values), np.float32)
    with np.errstate(over="ignore"):
        for row, value in enumerate(values):
            if is_missing(value):
                array[row] = np.nan
            elif isinstance(value, bool | np.bool_ | int | float | np.integer | np.floating):
                # A number beyond float32 becomes infinite, which the graph replaces and reports.
                try:
                    array[row] = float(value)
                except OverflowError:
                    array[row] = np.inf if value > 0 else -np.inf
            else:
                raise _wrong(feature, where, row, "a number", value)
    return array


def _integer(value, feature: Feature, where: str, row: int) -> int:
    if is_missing(value):
        return feature.missing
    # pandas turns integers into floats where one is missing.
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    if whole or (isinstance(value, int | np.integer) and not isinstance(value, bool)):
        value = int(value)
        if -2**63 <= value < 2**63:
            return value
    raise _wrong(feature, where, row, "an integer of 64 bits", value)


def _lists(values, feature: Feature, where: str) -> np.ndarray:
    rows = _rows_of_lists(values, feature, where)
    lengths = np.fromiter((min(len(r), feature.length) for r in rows), np.int64, len(rows))
    array = missing_array(feature, len(rows))
    flat = [v for r in rows for v in r[:feature.length]]
    if flat:
        array[np.arange(feature.length)[None, :] < lengths[:, None]] = _strings(flat, feature, where)
    return array


def _vectors(values, feature: Feature, where: str) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind in "fiu":
        if values.shape[1] != feature.length:
            raise DataError(f"Feature '{feature.name}' of {where} requires vectors of {feature.length} numbers, "
                            f"received {values.shape[1]}.")
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    rows = _rows_of_lists(values, feature, where)
    array = missing_array(feature, len(rows))
    for row, vector in enumerate(rows):
        if len(vector) == feature.length:
            array[row] = _numbers(vector, feature, where)
        elif len(vector):
            raise _wrong(feature, where, row, f"a vector of {feature.length} numbers", vector)
    return array


def _rows_of_lists(values, feature: Feature, where: str) -> list:
    rows = []
    for row, value in enumerate(values):
        if isinstance(value, list | tuple | np.ndarray):
            rows.append(value)
        elif is_missing(value):
            rows.append(())
        else:
            raise _wrong(feature, where, row, "a list", value)
    return rows


def _wrong(feature: Feature, where: str, row: int, required: str, value) -> DataError:
    value = value.item() if isinstance(value, np.generic) else value
    return DataError(f"Feature '{feature.name}' of {where} requires {required}, received {value!r:.80} in row {row}.")
