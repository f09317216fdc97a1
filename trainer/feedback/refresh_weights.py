"""Weights of a run for a recommender whose vocabularies have grown since."""

import numpy as np
import tensorflow as tf

from tfmeta.data.feature import Feature
from tfmeta.errors import RunError
from tfmeta.models.item_id_embedding import ItemIdEmbedding
from tfmeta.models.layers.feature_encoder import FeatureEncoder
from tfmeta.models.recommender import Recommender


def take_over(recommender: Recommender, *, before: Recommender) -> dict[str, int]:
    """Assigns the weights of `before`, each embedding to the value that it belongs to.

    A value that `before` did not know starts where `before` would have looked it up: in its hash bucket; a new item's
    own vector starts at zero, which is what an unknown item has. So, until a step is taken, both recommenders give the
    same scores to everything.

    Args:
      recommender: new; its specification is `extend_spec` of that of `before`.
      before: with its weights.

    Returns:
      table path -> number of new rows.

    Raises:
      RunError: if the two are of different models or learners.
    """
    known = {v.path: v for v in before.variables}
    if set(known) != {v.path for v in recommender.variables}:
        raise RunError("Going on from a run requires its model and learner; these weights differ: "
                       f"{sorted(set(known) ^ {v.path for v in recommender.variables})}.")
    sources, grown = {}, {}
    for old, new in zip(_tables(before), _tables(recommender), strict=True):
        sources[new.table.path] = _source_rows(old, new)
        grown[new.table.path] = new.table.shape[0] - old.table.shape[0]
    for variable in recommender.variables:
        value = np.asarray(known[variable.path].value)
        if variable.path in sources:
            rows = sources[variable.path]
            value = np.where((rows >= 0)[:, None], value[np.maximum(rows, 0)], 0).astype(value.dtype)
        if value.shape != tuple(variable.shape):
            raise RunError(f"Weight '{variable.path}' requires shape {tuple(variable.shape)}, the run that training "
                           f"goes on from has {value.shape}. Is its specification another one?")
        variable.assign(value)
    return grown


def _tables(recommender: Recommender) -> list[FeatureEncoder | ItemIdEmbedding]:
    """Returns the layers whose tables have a row per value, in a fixed order."""
    layers = {id(layer): layer for part in (recommender.model, recommender.learner)
              for layer in part._flatten_layers() if isinstance(layer, FeatureEncoder | ItemIdEmbedding)}
    return sorted((layer for layer in layers.values() if layer.table is not None), key=lambda layer: layer.table.path)


def _source_rows(old, new) -> np.ndarray:
    """Returns, for every row of the new table, the row of the old one that it starts as; -1 for zeros."""
    if isinstance(new, ItemIdEmbedding):
        # Its rows are the known items alone; a table of no items has one idle row.
        rows = _of_feature(old._feature, new._feature) - old._first
        rows = rows[new._first:]
        return np.where(rows >= 0, rows, -1) if len(rows) else np.zeros(1, np.int64)
    features = {f.name: f for f in (*old.categorical, *old.lists)}
    rows = [_of_feature(features[f.name], f) + old.rows[f.name].start for f in (*new.categorical, *new.lists)]
    return np.concatenate(rows)


def _of_feature(old: Feature, new: Feature) -> np.ndarray:
    """Returns `[new.num_ids]`: the integer that the old specification gives each value of the new one."""
    rows = np.arange(new.num_ids)
    if new.vocabulary is None:
        return rows
    known = {value: 1 + old.hash_buckets + place for place, value in enumerate(old.vocabulary)}
    unknown = [value for value in new.vocabulary if value not in known]
    if unknown:
        buckets = tf.strings.to_hash_bucket_fast([str(v) for v in unknown], old.hash_buckets).numpy() + 1
        known |= dict(zip(unknown, buckets.tolist(), strict=True))
    rows[1 + new.hash_buckets:] = [known[value] for value in new.vocabulary]
    return rows
