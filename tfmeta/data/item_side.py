"""The item-side twin of a prepared directory."""

import functools
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.interactions import Interactions
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.prepared_tables import to_bytes, write_train
from tfmeta.data.prepared_writer import write_directory
from tfmeta.data.splits.task_rows import TaskRows
from tfmeta.errors import DataError
from tfmeta.io import filesystem


def write_item_side(prepared: PreparedData, *, out: str, overwrite: bool = False) -> PreparedData:
    """Writes the same training rows, users and items with items as tasks: to train a learner of side item.

    Its evaluation is on the tasks of `prepared`, so the twin has none of its own. Nothing but what training on
    `prepared` may see is read: no task, no label beyond its training rows.

    Args:
      prepared: a directory whose tasks are users.
      out: the directory to create.
      overwrite: replace a directory that is there.

    Raises:
      DataError: if the tasks of `prepared` are items already, or `out` exists.
    """
    spec = prepared.feature_spec
    if spec.task_side != "user":
        raise DataError(f"An item-side twin requires a prepared directory whose tasks are users, received "
                        f"'{prepared.path}' with task side {spec.task_side}.")
    train = prepared.train
    swapped = Interactions(user_row=train.item_row, item_row=train.user_row, label=train.label, time=train.time)
    none = TaskRows.concatenate([]).to_table(item_row=train.item_row, label=train.label)
    summary = {"dataset": prepared.summary["dataset"], "features": prepared.summary["features"],
               "item_side_of": prepared.training_fingerprint(), "task_side": "item"}
    write_directory(out, {
        "feature_spec.json": spec.swap_sides().to_json().encode("utf-8"),
        "users.parquet": to_bytes(_renamed(prepared, "items.parquet", "item_id", "user_id")),
        "items.parquet": to_bytes(_renamed(prepared, "users.parquet", "user_id", "item_id")),
        "train.parquet": functools.partial(write_train, swapped, np.ones(len(train), bool)),
        "tasks/validation.parquet": to_bytes(none),
        "tasks/test.parquet": to_bytes(none),
        "summary.json": json.dumps(summary, indent=2).encode("utf-8"),
    }, overwrite=overwrite)
    return PreparedData(out)


def _renamed(prepared: PreparedData, name: str, before: str, after: str) -> pa.Table:
    table = pq.read_table(io.BytesIO(filesystem.read_bytes(filesystem.join(prepared.path, name))))
    return table.rename_columns([after if column == before else column for column in table.column_names])
