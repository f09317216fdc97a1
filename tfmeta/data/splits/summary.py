"""Counts of tasks for the summary of a prepared directory."""

import numpy as np

from tfmeta.data.splits.split import PARTITIONS
from tfmeta.data.splits.task_rows import TaskRows
from tfmeta.data.task_set import STATES


def task_counts(tasks: TaskRows, *, task_side: str = "user") -> dict:
    """Returns state -> number of tasks, users (items) and splits, and the range of the support."""
    counts = {}
    for state in STATES:
        chosen = tasks.state == state
        if chosen.any():
            support = tasks.support_length[chosen]
            counts[state] = {"tasks": int(chosen.sum()), f"{task_side}s": len(np.unique(tasks.user_row[chosen])),
                             "splits": len(np.unique(tasks.split[chosen])),
                             "support": [int(support.min()), int(support.max())]}
    return counts


def partition_counts(partition: np.ndarray, rows: np.ndarray, train: np.ndarray) -> dict:
    """Returns how many users (items) each partition has, how many training sees and how many have no rows."""
    counts = {name: int((partition == code).sum()) for code, name in enumerate(PARTITIONS)}
    used = np.bincount(rows, minlength=len(partition)) > 0
    return counts | {"in_training": len(np.unique(rows[train])), "without_interactions": int((~used).sum())}
