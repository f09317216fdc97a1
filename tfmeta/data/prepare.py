"""From clean raw data to a prepared directory."""

import dataclasses
import functools
import json
import time as clock
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from tfmeta import config
from tfmeta.data.extend_spec import extend_spec
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.fit_spec import fit_spec
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.prepared_tables import padded_lists, rejected_table, side_table, to_bytes, write_train
from tfmeta.data.prepared_writer import write_directory
from tfmeta.data.raw_data import RawData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import draw_split
from tfmeta.data.splits.explicit import read_explicit
from tfmeta.data.splits.summary import partition_counts, task_counts
from tfmeta.data.task_set import TaskSet
from tfmeta.data.vocabulary_config import VocabularyConfig


def prepare(
    *,
    raw: RawData,
    out: str,
    split: SplitConfig | None = None,
    vocabulary: VocabularyConfig | None = None,
    dataset: str = "custom",
    published: tuple | None = None,
    oracle: Callable[[TaskSet], dict[str, np.ndarray]] | None = None,
    seconds: dict[str, float] | None = None,
    overwrite: bool = False,
    extend: FeatureSpec | None = None,
) -> PreparedData:
    """Splits clean data, fits the feature specification and writes the directory that `PreparedData` reads.

    The directory appears whole or not at all. The same data and settings give the same bytes of every file
    but `summary.json` (which has timings) and the manifest. No label of a test cell reaches a file that
    training reads.

    With `split.task_side` item the directory has the roles swapped, see `FeatureSpec`: its users are the data's
    items. Its training rows are those of the same settings with side user.

    Args:
      raw: clean data.
      out: the directory to create, on any file system.
      split: how to split; default `SplitConfig()`.
      vocabulary: which values get an id of their own; default `VocabularyConfig()`.
      dataset: name for the summary.
      published: `(cold user ids, cold item ids)` of the data set's own partition, for mode `explicit`.
      oracle: for synthetic data, gives the best predictions for the queries of tasks of side user, name ->
        `[T, Q]` float32, `expected` among them; those for the test queries go into `oracle.parquet`, for tasks of
        side item `expected` alone.
      seconds: timings of earlier steps, for the summary.
      overwrite: replace a directory that is there.
      extend: specification of a model that is to be trained on; the directory's is that one with what is new, see
        `extend_spec`.

    Returns:
      The reader of what was written.

    Raises:
      DataError: if the data cannot be split as asked, a split file is wrong, or `out` exists.
    """
    split = split or SplitConfig()
    vocabulary = vocabulary or VocabularyConfig()
    begun = clock.perf_counter()
    rows = dict(user_row=raw.interactions.user_row, item_row=raw.interactions.item_row)
    ids = dict(user_ids=raw.users["user_id"].to_numpy(), item_ids=raw.items["item_id"].to_numpy())
    explicit = read_explicit(split, **ids, **rows, published=published)
    parts = draw_split(split, **ids, **rows, time=raw.interactions.time, explicit=explicit)
    by_item = split.task_side == "item"
    sided = raw.swap_sides() if by_item else raw
    spec = fit_spec(sided, parts.train, vocabulary=vocabulary)
    spec = dataclasses.replace(spec, task_side=split.task_side, title=raw.schema.title)
    if extend is not None:
        spec = extend_spec(extend, spec)
    labels = dict(item_row=sided.interactions.item_row, label=raw.interactions.label)
    tables = {"user": side_table(sided, "user", parts.item_partition if by_item else parts.user_partition,
                                 title=raw.schema.title if by_item else None),
              "item": side_table(sided, "item", parts.user_partition if by_item else parts.item_partition,
                                 title=None if by_item else raw.schema.title)}
    files = {
        "feature_spec.json": spec.to_json().encode("utf-8"),
        "users.parquet": to_bytes(tables["user"]),
        "items.parquet": to_bytes(tables["item"]),
        "train.parquet": functools.partial(write_train, sided.interactions, parts.train),
        "tasks/validation.parquet": to_bytes(parts.validation.to_table(**labels)),
        "tasks/test.parquet": to_bytes(parts.test.to_table(**labels)),
        "rejected.parquet": to_bytes(rejected_table(raw.rejected)),
    }
    if oracle is not None:
        tasks = parts.test.to_task_set(**labels)
        best = _item_oracle(oracle, tasks) if by_item else oracle(tasks)
        files["oracle.parquet"] = to_bytes(pa.table(padded_lists(best, tasks.query_length)))
    features = (*spec.user_features, *spec.item_features)
    summary = {
        "dataset": dataset,
        "features": raw.features,
        "read": raw.counts,
        "split": config.to_dict(split),
        "vocabulary": config.to_dict(vocabulary),
        "users": partition_counts(parts.user_partition, rows["user_row"], parts.train),
        "items": partition_counts(parts.item_partition, rows["item_row"], parts.train),
        "rows": parts.row_counts(**rows, config=split),
        "tasks": {part: task_counts(getattr(parts, part), task_side=split.task_side)
                  for part in ("test", "validation")},
        "vocabulary_sizes": {f.name: len(f.vocabulary) for f in features if f.vocabulary is not None},
        "label": config.to_dict(spec.label),
        "seconds": {**(seconds or {}), "prepare": round(clock.perf_counter() - begun, 3)},
    }
    files["summary.json"] = json.dumps(summary, indent=2, ensure_ascii=False).encode("utf-8")
    write_directory(out, files, overwrite=overwrite)
    return PreparedData(out)


def _item_oracle(oracle: Callable[[TaskSet], dict[str, np.ndarray]], tasks: TaskSet) -> dict[str, np.ndarray]:
    """Asks about every (item, query user) as a user's task of one query and no support."""
    task, place = np.nonzero(np.arange(tasks.query_item.shape[1])[None, :] < tasks.query_length[:, None])
    count, pairs = len(task), (len(task), 1)
    best = oracle(TaskSet(
        state=tasks.state[task], user_row=tasks.query_item[task, place], split=tasks.split[task],
        support_item=np.full(pairs, -1, np.int32), support_label=np.full(pairs, np.nan, np.float32),
        support_length=np.zeros(count, np.int32), query_item=tasks.user_row[task, None].astype(np.int32),
        query_label=tasks.query_label[task, place, None], query_length=np.ones(count, np.int32)))["expected"]
    expected = np.full(tasks.query_item.shape, np.nan, np.float32)
    expected[task, place] = best[:, 0]
    return {"expected": expected}
