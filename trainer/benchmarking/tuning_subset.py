"""A prepared directory with some of the training users only."""

import hashlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.prepared_data import FORMAT, MANIFEST, PreparedData
from tfmeta.data.prepared_tables import to_bytes
from tfmeta.data.splits.random_order import id_hash, random_key
from tfmeta.io import filesystem

# Keeps this choice of users apart from every draw of a split.
_STREAM = 7001
_COPIED = ("feature_spec.json", "users.parquet", "items.parquet")


def write_tuning_subset(prepared: PreparedData, *, out: str, users: int, seed: int = 0) -> PreparedData:
    """Writes the training rows of so many users, chosen by their ids and the seed alone, and no tasks.

    Everything else is as in `prepared`: rows of users and items, vocabularies, statistics. Tasks are left out because
    trials are scored on those of `prepared`, and no test task belongs where settings are chosen.

    Args:
      prepared: a directory with validation tasks.
      out: the directory to create.
      users: how many training users; all where there are no more.
      seed: of the choice.
    """
    train = pq.read_table(io.BytesIO(filesystem.read_bytes(filesystem.join(prepared.path, "train.parquet"))))
    rows = train["user_row"].to_numpy()
    known = np.unique(rows)
    if len(known) > users:
        key = random_key(id_hash(prepared.users["user_id"].to_numpy()[known]), seed=seed, stream=_STREAM)
        chosen = known[np.argsort(key, kind="stable")[:users]]
        train = train.filter(pa.array(np.isin(rows, chosen)))
    files = {name: filesystem.read_bytes(filesystem.join(prepared.path, name)) for name in _COPIED}
    files["train.parquet"] = to_bytes(train)
    for part in ("validation", "test"):
        name = f"tasks/{part}.parquet"
        table = pq.read_table(io.BytesIO(filesystem.read_bytes(filesystem.join(prepared.path, name))))
        files[name] = to_bytes(table.slice(0, 0))
    summary = {"dataset": prepared.summary["dataset"], "features": prepared.summary["features"],
               "subset_of": prepared.training_fingerprint(), "training_users": min(users, len(known)), "seed": seed}
    files["summary.json"] = json.dumps(summary, indent=2).encode()
    manifest = {"format": FORMAT, "files": {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                                            for name, content in files.items()}}
    files[MANIFEST] = json.dumps(manifest, indent=2).encode()
    with filesystem.atomic_directory(out, last=(MANIFEST,)) as folder:
        for name, content in files.items():
            filesystem.write_bytes(filesystem.join(folder, name), content)
    return PreparedData(out)
