"""What tuning goes by."""

import dataclasses

import numpy as np

from tfmeta.data.label import Label
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet
from tfmeta.metrics import lower_is_better, ranking, rating
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.positives_only import METRICS, catalogue_of, chosen_metric
from trainer.evaluation.scorer import Scorer


@dataclasses.dataclass(frozen=True)
class Criterion:
    """One number for a fitted model on validation tasks: the mean over states of the mean over tasks.

    Attributes:
      metric: `mae`, `auc`, or a metric of `catalogue`. Models whose scores are no ratings have no `mae`: they are
        judged by `auc` among their own settings, and never against others.
      tasks: to score, whole supports.
      label: of the data.
      catalogue: measures out of all items; only for its metrics.
    """

    metric: str
    tasks: TaskSet
    label: Label
    catalogue: Catalogue | None = None

    @classmethod
    def of(cls, prepared: PreparedData, *, metric: str | None = None) -> "Criterion":
        """Returns the criterion on the validation tasks of a prepared directory.

        Args:
          prepared: the directory.
          metric: name; None takes what the label and the tasks have (`default_metric`).

        Raises:
          ConfigError: if the metric is undefined because the queries hold positives only.
        """
        tasks, label = prepared.tasks("validation"), prepared.feature_spec.label
        metric = chosen_metric(metric, tasks, label, of=f"the validation tasks of '{prepared.path}'")
        return cls(metric, tasks, label, catalogue_of(prepared) if metric in METRICS else None)

    def metric_of(self, scorer: Scorer) -> str:
        """Returns what this model is judged by."""
        return "auc" if self.metric == "mae" and not scorer.label_unit else self.metric

    def __call__(self, scorer: Scorer) -> dict[str, float]:
        """Returns state -> value and, under `mean`, their mean; NaN where nothing is defined."""
        metric, label, result = self.metric_of(scorer), self.label, {}
        for state in self.tasks.states:
            tasks = self.tasks.in_state(state)
            blind = dataclasses.replace(tasks, query_label=np.full_like(tasks.query_label, np.nan))
            if self.catalogue is not None and metric in self.catalogue.metrics:
                values = self.catalogue.measure(scorer, blind, part=tasks)[metric]
            else:
                query = (scorer.score(blind), tasks.query_label, tasks.query_length)
                values = (rating.mae(*query, minimum=label.minimum, maximum=label.maximum) if metric == "mae" else
                          ranking.auc(*query, threshold=label.threshold))
            result[state] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
        known = [v for v in result.values() if not np.isnan(v)]
        return {**result, "mean": float(np.mean(known)) if known else float("nan")}

    def loss(self, value: float, *, metric: str | None = None) -> float:
        """Returns what tuning minimises: the value or its negative."""
        return value if lower_is_better(metric or self.metric) else -value
