"""Implicit feedback as sparse matrices."""

import numpy as np
import scipy.sparse

from tfmeta.data.label import Label
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


def training_positives(prepared: PreparedData) -> scipy.sparse.csr_matrix:
    """Returns `[U, I + 1]` float64 strengths of the training positives; the last column, of unknown items, is empty.

    A positive has a label above 0 (clicks and weights) or at or above the threshold (ratings); its strength is the
    weight, 1 for clicks and ratings. A repeated pair keeps its largest strength.
    """
    train = prepared.train
    strength = _strength(train.label, prepared.feature_spec.label)
    chosen = strength > 0
    shape = (len(prepared.users), len(prepared.items) + 1)
    return _largest(train.user_row[chosen], train.item_row[chosen], strength[chosen], shape)


def support_positives(tasks: TaskSet, *, num_items: int, label: Label) -> scipy.sparse.csr_matrix:
    """Returns `[T, I + 1]` float64 strengths of the supports' positives, as above; column I is for unknown items."""
    real = np.arange(tasks.support_label.shape[1])[None, :] < tasks.support_length[:, None]
    strength = np.where(real, _strength(np.where(real, tasks.support_label, -np.inf), label), 0.0)
    task, place = np.nonzero(strength > 0)
    item = tasks.support_item[task, place] % (num_items + 1)  # -1, unknown, is the last column
    return _largest(task, item, strength[task, place], (len(tasks), num_items + 1))


def _strength(value: np.ndarray, label: Label) -> np.ndarray:
    if label.unit == "rating":
        return (value >= label.threshold).astype(np.float64)
    return np.maximum(value, 0.0).astype(np.float64)


def _largest(row: np.ndarray, column: np.ndarray, value: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_matrix:
    order = np.lexsort((value, column, row))
    row, column, value = row[order], column[order], value[order]
    last = np.append((np.diff(row) != 0) | (np.diff(column) != 0), True)[:len(row)]
    return scipy.sparse.csr_matrix((value[last], (row[last], column[last])), shape=shape)
