"""Writes a small prepared directory by hand, so that training is tested apart from data preparation."""

import hashlib
import json
import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label import Label

WARM_USERS, VALIDATION_USERS, COLD_USERS = 40, 10, 10
WARM_ITEMS, COLD_ITEMS = 50, 10
TASKS = pa.schema([("state", pa.string()), ("user_row", pa.int32()), ("split", pa.int32())] + [
    (f"{side}_{name}", pa.list_(kind)) for side in ("query", "support")
    for name, kind in (("item", pa.int32()), ("label", pa.float32()))])
GENRES = ("a", "b", "c", "d")


def write_tiny(folder, *, unit="rating", validation=True, seed=0, permute_test_labels=False, leak=False,
               label_shift=0.0, positives_only=False, counts=False, threshold=None, strays=0) -> str:
    """Writes the directory and returns its path.

    Args:
      folder: to create.
      unit: of the label.
      validation: write validation tasks.
      seed: of the interactions.
      permute_test_labels: shuffle the labels of all test cells.
      leak: put the test tasks' supports into the training rows, which a correct preparation never does.
      label_shift: added to every training label of the first user.
      positives_only: leave the interactions out whose label is not positive, in training and tasks.
      counts: labels that are 1 or more where they would be 1, as of films that were watched again.
      threshold: of relevance; default four fifths of the largest label, 1 for counts.
      strays: so many of the first training rows get the label 0.
    """
    folder = pathlib.Path(folder)
    (folder / "tasks").mkdir(parents=True)
    rng = np.random.default_rng([seed, 5])
    users, items = WARM_USERS + VALIDATION_USERS + COLD_USERS, WARM_ITEMS + COLD_ITEMS
    taste, content = rng.normal(size=(users, 4)), np.eye(4)[np.arange(items) % 4]
    rating = np.clip(np.round(3.2 + taste @ content.T + rng.normal(size=(users, items)) * 0.5), 1, 5)
    if unit != "rating":
        rating = (rating >= 4).astype(float) * (rng.integers(1, 20, rating.shape) if counts else 1)
    rows = []
    for user in range(WARM_USERS):
        chosen = rng.choice(WARM_ITEMS, rng.integers(12, 30), replace=False)
        rows += [(user, item, rating[user, item] + (label_shift if user == 0 else 0)) for item in chosen]
    validation_tasks = _tasks(rng, range(WARM_USERS, WARM_USERS + VALIDATION_USERS), WARM_ITEMS, rating)
    test_tasks = _tasks(rng, range(WARM_USERS + VALIDATION_USERS, users), WARM_ITEMS, rating)
    if positives_only:
        rows = [row for row in rows if row[2] > 0]
        for tasks in (validation_tasks, test_tasks):
            for side in ("query", "support"):
                kept = [label > 0 for label in tasks[f"{side}_label"]]
                for column in (f"{side}_item", f"{side}_label"):
                    tasks[column] = [value[keep] for value, keep in zip(tasks[column], kept, strict=True)]
    if permute_test_labels:
        # Another generator: what follows must not depend on whether labels are permuted.
        other = np.random.default_rng(99)
        for side in ("query_label", "support_label"):
            test_tasks[side] = [other.permutation(v) for v in test_tasks[side]]
    if leak:
        for user, support, labels in zip(test_tasks["user_row"], test_tasks["support_item"],
                                         test_tasks["support_label"], strict=True):
            rows += [(user, item, label) for item, label in zip(support, labels, strict=True)]
    rows = [(user, item, label if place >= strays else 0) for place, (user, item, label) in enumerate(rows)]
    frame = pd.DataFrame(rows, columns=["user_row", "item_row", "label"])
    frame = frame.astype({"user_row": np.int32, "item_row": np.int32, "label": np.float32})
    frame["time"] = np.arange(len(frame), dtype=np.int64)
    low, high = (1.0, 5.0) if unit == "rating" else (0.0, 20.0) if counts else (0.0, 1.0)
    threshold = threshold or (1.0 if counts else high * 0.8)
    spec = FeatureSpec(
        label=Label(name="rating", unit=unit, minimum=low, maximum=high, threshold=threshold,
                    mean=float(np.float32(frame["label"].mean())), std=1.0),
        user_id=_categorical("user", [f"u{i}" for i in range(WARM_USERS)]),
        item_id=_categorical("movie", [f"i{i}" for i in range(WARM_ITEMS)]),
        user_features=(Feature(name="age", kind="numeric", dtype="float32", mean=(30.0,), std=(10.0,)),),
        item_features=(_categorical("genre", list(GENRES)),))
    (folder / "feature_spec.json").write_text(spec.to_json())
    partition = ["warm"] * WARM_USERS + ["validation"] * VALIDATION_USERS + ["cold"] * COLD_USERS
    pd.DataFrame({"user_id": [f"u{i}" for i in range(users)], "partition": partition,
                  "age": (30 + 10 * taste[:, 0]).astype(np.float32)}).to_parquet(folder / "users.parquet")
    pd.DataFrame({"item_id": [f"i{i}" for i in range(items)],
                  "partition": ["warm"] * WARM_ITEMS + ["cold"] * COLD_ITEMS,
                  "genre": [GENRES[i % 4] for i in range(items)]}).to_parquet(folder / "items.parquet")
    frame.to_parquet(folder / "train.parquet")
    if not validation:
        validation_tasks = validation_tasks.iloc[:0]
    for part, tasks in (("validation", validation_tasks), ("test", test_tasks)):
        # With a schema, because lists of nothing have no type of their own.
        pq.write_table(pa.Table.from_pandas(tasks, schema=TASKS, preserve_index=False),
                       folder / "tasks" / f"{part}.parquet")
    (folder / "summary.json").write_text(json.dumps({"train": len(frame)}))
    files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    (folder / "manifest.json").write_text(json.dumps({
        "format": "tfmeta.prepared.v1",
        "files": {name: {"bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
                  for name, p in files.items()}}))
    return str(folder)


def _categorical(name, vocabulary):
    return Feature(name=name, kind="categorical", dtype="string", vocabulary=tuple(vocabulary))


def _tasks(rng, users, items, rating):
    columns = {c: [] for c in ("state", "user_row", "split", "query_item", "query_label", "support_item",
                               "support_label")}
    for user in users:
        chosen = rng.permutation(items)[:int(rng.integers(12, 20))].astype(np.int32)
        labels = rating[user, chosen].astype(np.float32)
        for name, value in (("state", "user_cold"), ("user_row", user), ("split", 0), ("query_item", chosen[:8]),
                            ("query_label", labels[:8]), ("support_item", chosen[8:]),
                            ("support_label", labels[8:])):
            columns[name].append(value)
    return pd.DataFrame(columns).astype({"user_row": np.int32, "split": np.int32})


SMALL = {
    "seed": 3,
    "model": {"name": "two_tower", "embedding_dim": 4, "vector_dim": 4, "user_units": [4], "item_units": [4]},
    "learner": {"name": "maml", "inner_steps": 1},
    "sampler": {"query_size": 4, "min_interactions": 8, "meta_batch_size": 8},
    "optimizer": {"learning_rate": 0.02},
    "epochs": 2,
    "item_id_dropout": 0.2,
}
