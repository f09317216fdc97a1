"""Raw feature columns of a data frame as arrays, padded the way every interface expects them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature
from tfmeta.errors import DataError


def raw_columns(frame: pd.DataFrame, features: Iterable[Feature], *,
                rename: dict[str, str] | None = None) -> dict[str, np.ndarray]:
    """Returns feature name -> array `[rows, ...]` in the raw dtype of `Feature`, missing values filled.

    Args:
      frame: one row per user or item.
      features: the features to take.
      rename: feature name -> column name, where they differ (ids are kept under `user_id` and `item_id`).

    Raises:
      DataError: if a column is missing or its values do not have the feature's shape.
    """
    rename = rename or {}
    columns = {}
    for feature in features:
        name = rename.get(feature.name, feature.name)
        if name not in frame.columns:
            raise DataError(f"Feature '{feature.name}' requires column '{name}', received columns "
                            f"{list(frame.columns)}.")
        columns[feature.name] = raw_array(frame[name], feature)
    return columns


def raw_array(values: pd.Series, feature: Feature) -> np.ndarray:
    """Returns one raw column as an array: object (strings), int64 or float32, `[rows]` or `[rows, length]`."""
    if feature.kind == "numeric":
        return pd.to_numeric(values, errors="coerce").to_numpy(np.float32)
    if feature.kind in ("categorical", "text"):
        if feature.dtype == "int64":
            return values.fillna(feature.missing).to_numpy(np.int64)
        return values.astype(object).where(values.notna(), "").map(str).to_numpy(object)
    lists = [() if v is None or np.isscalar(v) else v for v in values]
    lengths = np.fromiter((len(v) for v in lists), np.int64, len(lists))
    if feature.kind == "dense_vector":
        wrong = np.flatnonzero((lengths != feature.length) & (lengths != 0))
        if len(wrong):
            raise DataError(f"Feature '{feature.name}' requires vectors of {feature.length} numbers, received "
                            f"{lengths[wrong[0]]} in row {wrong[0]}.")
        array = np.full((len(lists), feature.length), np.nan, np.float32)
    else:
        lengths = np.minimum(lengths, feature.length)
        array = np.full((len(lists), feature.length), "", object)
    if lengths.sum():
        keep = np.arange(feature.length)[None, :] < lengths[:, None]
        array[keep] = np.concatenate([np.asarray(v[:n], array.dtype)
                                      for v, n in zip(lists, lengths, strict=True) if n])
    return array


def missing_row(features: Iterable[Feature]) -> dict[str, np.ndarray]:
    """Returns feature name -> array `[1, ...]` of missing values: the content-free user or item."""
    dtypes = {"string": object, "int64": np.int64, "float32": np.float32}
    return {f.name: np.full((1, *f.raw_shape), f.missing, dtypes[f.dtype]) for f in features}
