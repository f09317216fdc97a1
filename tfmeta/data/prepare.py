"""From clean raw data to a prepared directory."""

import functools
import json
import os
import time as clock
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from tfmeta import config
from tfmeta.data.fit_spec import fit_spec
from tfmeta.data.prepared_data import FORMAT, MANIFEST, PreparedData, sha256
from tfmeta.data.prepared_tables import padded_lists, rejected_table, side_table, to_bytes, write_train
from tfmeta.data.raw_data import RawData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import draw_split
from tfmeta.data.splits.explicit import read_explicit
from tfmeta.data.splits.summary import partition_counts, task_counts
from tfmeta.data.task_set import TaskSet
from tfmeta.data.vocabulary_config import VocabularyConfig
from tfmeta.io import filesystem


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
) -> PreparedData:
    """Splits clean data, fits the feature specification and writes the directory that `PreparedData` reads.

    The directory appears whole or not at all. The same data and settings give the same bytes of every file
    but `summary.json` (which has timings) and the manifest. No label of a test cell reaches a file that
    training reads.

    Args:
      raw: clean data.
      out: the directory to create, on any file system.
      split: how to split; default `SplitConfig()`.
      vocabulary: which values get an id of their own; default `VocabularyConfig()`.
      dataset: name for the summary.
      published: `(cold user ids, cold item ids)` of the data set's own partition, for mode `explicit`.
      oracle: for synthetic data, gives the best predictions for the test queries, name -> `[T, Q]` float32;
        they go into `oracle.parquet`.
      seconds: timings of earlier steps, for the summary.
      overwrite: replace a directory that is there.

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
    spec = fit_spec(raw, parts.train, vocabulary=vocabulary)
    labels = dict(item_row=raw.interactions.item_row, label=raw.interactions.label)
    files = {
        "feature_spec.json": spec.to_json().encode("utf-8"),
        "users.parquet": to_bytes(side_table(raw, "user", parts.user_partition)),
        "items.parquet": to_bytes(side_table(raw, "item", parts.item_partition)),
        "train.parquet": functools.partial(write_train, raw, parts.train),
        "tasks/validation.parquet": to_bytes(parts.validation.to_table(**labels)),
        "tasks/test.parquet": to_bytes(parts.test.to_table(**labels)),
        "rejected.parquet": to_bytes(rejected_table(raw.rejected)),
    }
    if oracle is not None:
        tasks = parts.test.to_task_set(**labels)
        files["oracle.parquet"] = to_bytes(pa.table(padded_lists(oracle(tasks), tasks.query_length)))
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
        "tasks": {part: task_counts(getattr(parts, part)) for part in ("test", "validation")},
        "vocabulary_sizes": {f.name: len(f.vocabulary) for f in features if f.vocabulary is not None},
        "label": config.to_dict(spec.label),
        "seconds": {**(seconds or {}), "prepare": round(clock.perf_counter() - begun, 3)},
    }
    files["summary.json"] = json.dumps(summary, indent=2, ensure_ascii=False).encode("utf-8")
    _write(out, files, overwrite=overwrite)
    return PreparedData(out)


def _write(out: str, files: dict[str, bytes | Callable], *, overwrite: bool) -> None:
    """Writes the files, each given as its bytes or as a function of its `path`, and the manifest over them."""
    manifest = {"format": FORMAT, "files": {}}
    with filesystem.atomic_directory(out, overwrite=overwrite, last=(MANIFEST,)) as folder:
        filesystem.makedirs(filesystem.join(folder, "tasks"))
        for name, content in files.items():
            path = filesystem.join(folder, name)
            if callable(content):
                content(path=path)
            else:
                with filesystem.open_file(path, "wb") as file:
                    file.write(content)
            with filesystem.open_file(path, "rb") as file:
                manifest["files"][name] = {"bytes": os.path.getsize(path), "sha256": sha256(file)}
        with filesystem.open_file(filesystem.join(folder, MANIFEST), "wb") as file:
            file.write(json.dumps(manifest, indent=2).encode("utf-8"))
