"""Fits vocabularies and statistics on training rows."""

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.raw_data import RawData
from tfmeta.data.vocabulary_config import VocabularyConfig
from tfmeta.errors import ConfigError, suggest


def fit_spec(raw: RawData, train: np.ndarray, *, vocabulary: VocabularyConfig | None = None) -> FeatureSpec:
    """Returns the specification of a data set as its training rows show it.

    Vocabularies hold the values of users (items) that occur in training rows, the most frequent first, ties
    in ascending order of the value. A feature value counts once per user (item), an id once per training row.
    Numbers are standardised with the mean and the population standard deviation over those users (items); the
    label's statistics are those of the training rows.

    Args:
      raw: the data.
      train: `[N]` bool over `raw.interactions`; nothing of the other rows is looked at.
      vocabulary: least counts.

    Raises:
      ConfigError: if `vocabulary` names a feature that has no vocabulary.
    """
    vocabulary = vocabulary or VocabularyConfig()
    schema, interactions = raw.schema, raw.interactions
    known = [f.name for f in (*schema.user_features, *schema.item_features)
             if f.kind in ("categorical", "multi_categorical")]
    for name in vocabulary.features:
        if name not in known:
            raise ConfigError(f"No feature with a vocabulary is called '{name}'.{suggest(name, known)}")
    parts = {}
    for side, frame in (("user", raw.users), ("item", raw.items)):
        id_column, id_dtype, features = schema.side(side)
        count = np.bincount(getattr(interactions, f"{side}_row")[train], minlength=len(frame))
        seen = np.flatnonzero(count)
        ids = frame[f"{side}_id"].to_numpy()[seen]
        parts[f"{side}_id"] = Feature(name=id_column, kind="categorical", dtype=id_dtype,
                                      vocabulary=_ordered(ids, count[seen], least=1))
        rows = frame.iloc[seen]
        parts[f"{side}_features"] = tuple(_fit(f, rows[f.name], vocabulary) for f in features)
    labels = interactions.label[train].astype(np.float64)
    mean, std = _statistics(labels[:, None])
    return FeatureSpec(label=schema.label.to_label(mean=mean[0], std=std[0]), title=schema.title, **parts)


def _fit(schema: FeatureSchema, values: pd.Series, vocabulary: VocabularyConfig) -> Feature:
    feature = dict(name=schema.name, kind=schema.kind, dtype=schema.dtype, length=schema.length,
                   hash_buckets=schema.hash_buckets)
    if schema.kind in ("categorical", "multi_categorical"):
        flat = values.to_numpy()
        if schema.kind == "multi_categorical":
            # A value that a row names twice counts once.
            flat = values.map(lambda v: list(dict.fromkeys(v))).explode().dropna().to_numpy()
        missing = -1 if schema.dtype == "int64" else ""
        flat = flat[flat != missing]
        found, count = np.unique(flat.astype(np.int64 if schema.dtype == "int64" else object), return_counts=True)
        least = vocabulary.of(name=schema.name, kind=schema.kind)
        return Feature(**feature, vocabulary=_ordered(found, count, least=least))
    if schema.kind == "text":
        return Feature(**feature)
    if schema.kind == "numeric":
        numbers = values.to_numpy(np.float64)[:, None]
    else:
        numbers = np.stack(values.to_numpy()).astype(np.float64) if len(values) else np.zeros((0, schema.length))
    mean, std = _statistics(numbers)
    return Feature(**feature, mean=mean, std=std)


def _ordered(values: np.ndarray, count: np.ndarray, *, least: int) -> tuple[str | int, ...]:
    keep = count >= least
    values, count = values[keep], count[keep]
    order = np.argsort(values, kind="stable")
    order = order[np.argsort(-count[order], kind="stable")]
    return tuple(values[order].tolist())


def _statistics(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each column, NaN left out; a constant column gets deviation
    1.
    """
    known = np.isfinite(values)
    number = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / number
    # Deviations from the mean, not a difference of squares, which cancels for large means.
    std = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / number)
    std = np.where(std > 1e-12 * np.maximum(1.0, np.abs(mean)), std, 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())
