"""Adds a content profile to prepared data."""

import dataclasses
import functools
import json
import time as clock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta import config as configs
from tfmeta.content.content_profile import ContentProfile
from tfmeta.content.content_profile_config import ContentProfileConfig
from tfmeta.content.item_targets import ItemTargets
from tfmeta.data.feature import Feature
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.prepared_tables import to_bytes
from tfmeta.data.prepared_writer import write_directory
from tfmeta.errors import DataError
from tfmeta.io import filesystem


def enrich(prepared: PreparedData, *, out: str, config: ContentProfileConfig | None = None,
           overwrite: bool = False) -> PreparedData:
    """Writes a copy of a prepared directory whose items have one feature more, their `ContentProfile`.

    It is fitted on the training rows alone; items without any, cold ones among them, get theirs from their content.
    The title, where there is one, is compared like a text. The same input gives the same bytes but for timings.

    Args:
      prepared: data with ratings, users as tasks and at least one item feature or a title.
      out: the directory to create, on any file system.
      config: settings.
      overwrite: replace a directory that is there.

    Raises:
      DataError: if the data has no ratings, nothing to compare items by, a column of that name already or less than
        two items to learn from, or if `out` exists.
    """
    config, begun = config or ContentProfileConfig(), clock.perf_counter()
    spec, items = prepared.feature_spec, prepared.items
    if spec.label.unit != "rating" or spec.task_side != "user":
        raise DataError(f"A content profile requires ratings and users as tasks, received unit '{spec.label.unit}' and "
                        f"side '{spec.task_side}'.")
    features = spec.item_features
    if config.name in items:
        raise DataError(f"'{prepared.path}' has item column '{config.name}' already. Start from data without it, or "
                        "choose another name (--set name=...).")
    if spec.title is not None and all(f.name != spec.title for f in features):
        features = (*features, Feature(spec.title, "text", "string", length=1, hash_buckets=1))
    if not features:
        raise DataError(f"A content profile requires item features or a title, received none in '{prepared.path}'.")
    observed = len(np.unique(prepared.train.item_row))
    if observed < 2:
        raise DataError(f"A content profile requires at least 2 items with training interactions, received {observed} "
                        f"in '{prepared.path}'.")
    targets = ItemTargets.fit(prepared.train, num_users=len(prepared.users), num_items=len(items),
                              factors=config.factors, seed=config.seed)
    profile = ContentProfile.fit(items, features=features, targets=targets, config=config)
    warm = profile.table[targets.count > 0]
    deviation = warm.std(axis=0)
    feature = Feature(config.name, "dense_vector", "float32", length=profile.width,
                      mean=tuple(warm.mean(axis=0).tolist()),
                      std=tuple(np.where(deviation > 1e-9, deviation, 1.0).tolist()))
    spec = dataclasses.replace(spec, item_features=(*spec.item_features, feature))
    summary = {**prepared.summary, "content_profile": {
        **configs.to_dict(config), "width": profile.width, "fitted_items": len(profile.solution),
        "explained_bias": round(profile.explained, 4),
        "weights": {f.name: round(float(w), 6) for f, w in zip(features, profile.weights, strict=True)},
        "seconds": round(clock.perf_counter() - begun, 3)}}
    files = {name: functools.partial(_copy, filesystem.join(prepared.path, name))
             for name in prepared.manifest["files"]}
    files["feature_spec.json"] = spec.to_json().encode("utf-8")
    files["items.parquet"] = _with_column(filesystem.join(prepared.path, "items.parquet"), feature, profile.table)
    files["summary.json"] = json.dumps(summary, indent=2, ensure_ascii=False).encode("utf-8")
    write_directory(out, files, overwrite=overwrite)
    return PreparedData(out)


def _copy(source: str, *, path: str) -> None:
    with filesystem.open_file(source, "rb") as reader, filesystem.open_file(path, "wb") as writer:
        while chunk := reader.read(8 << 20):
            writer.write(chunk)


def _with_column(path: str, feature: Feature, table: np.ndarray) -> bytes:
    items = pq.read_table(pa.BufferReader(filesystem.read_bytes(path)))
    offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * feature.length)
    return to_bytes(items.append_column(
        feature.name, pa.ListArray.from_arrays(offsets, pa.array(table.astype(np.float32).ravel()))))
