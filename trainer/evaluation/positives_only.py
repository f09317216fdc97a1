"""Implicit feedback whose queries hold positives only (visits, purchases): measured over the whole catalogue."""

from typing import Any

import numpy as np

from tfmeta.data.label import Label
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import ConfigError
from trainer.evaluation.catalogue import Catalogue

# Of lists out of the whole catalogue.
CUTOFF = 20
# The most important one first. Over a query of positives AUC is undefined and NDCG is 1, whatever the model.
METRICS = (f"ndcg@{CUTOFF}", f"recall@{CUTOFF}")


def positives_only(tasks: TaskSet, label: Label) -> bool:
    """Tells whether tasks are of implicit feedback and no query holds anything but positives."""
    real = np.arange(tasks.query_label.shape[1])[None, :] < tasks.query_length[:, None]
    return bool(label.unit != "rating" and real.any() and (tasks.query_label[real] >= label.threshold).all())


def default_metric(tasks: TaskSet, label: Label) -> str:
    """Returns what settings and models are chosen by unless told otherwise."""
    if label.unit == "rating":
        return "mae"
    return METRICS[0] if positives_only(tasks, label) else "auc"


def chosen_metric(asked: str | None, tasks: TaskSet, label: Label, *, of: str) -> str:
    """Returns the metric asked for, else the default one.

    Args:
      asked: its name, or None.
      tasks: that it is measured on.
      label: of the data.
      of: what these are the tasks of, for the message.

    Raises:
      ConfigError: if it is undefined because the queries hold positives only.
    """
    metric = asked or default_metric(tasks, label)
    if metric not in METRICS and positives_only(tasks, label):
        raise ConfigError(f"The queries of {of} hold positives only, of which {metric} says nothing. Use "
                          f"{' or '.join(METRICS)}.")
    return metric


def catalogue_of(prepared: PreparedData, *, cutoff: int = CUTOFF) -> Catalogue:
    """Returns the measure of a prepared directory's tasks over all of its items."""
    return Catalogue(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items),
                     label=prepared.feature_spec.label, cutoff=cutoff)


def protocol(tasks: TaskSet, prepared: PreparedData, *, cutoff: int | None = None) -> dict[str, Any]:
    """Returns the arguments of `evaluate` that say what is measured beside its own list metrics, or instead of them.

    Args:
      tasks: that are evaluated.
      prepared: their directory.
      cutoff: of metrics over the whole catalogue; None measures them at 20 where the tasks' queries hold positives
        only, else not at all.
    """
    visits = positives_only(tasks, prepared.feature_spec.label)
    if cutoff is None and not visits:
        return {}
    found: dict[str, Any] = {"catalogue": catalogue_of(prepared, cutoff=CUTOFF if cutoff is None else cutoff)}
    return found | ({"cutoffs": ()} if visits else {})
