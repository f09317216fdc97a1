"""Validation during training, by the same scoring path as the evaluation."""

import numpy as np

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.interactions import Interactions
from tfmeta.data.task_set import TaskSet
from tfmeta.data.training_rows import TrainingRows
from tfmeta.errors import ConfigError
from tfmeta.metrics import ranking, rating
from tfmeta.models.recommender import Recommender
from trainer.config import ValidationConfig
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.positives_only import CUTOFF, default_metric, positives_only
from trainer.evaluation.recommender_scorer import RecommenderScorer

# Keeps the choice of tasks apart from every other draw of the same seed.
_STREAM = 2


class Validation:
    """Scores a fixed choice of the validation tasks, adapted and unadapted.

    Every metric is averaged over the tasks of a state where it is defined, then over the states where it is, with equal
    weight. Names: `val_auc` (adapted), `val_base_auc` (unadapted), `val_user_cold_auc` (one state, adapted), and
    so on; `mae` for ratings, `logloss` for probabilities. Of implicit feedback whose queries hold positives only there
    are `ndcg@20` and `recall@20` over the whole catalogue instead (`Catalogue`): scores of all items for every task. A
    validation without tasks is false and has no metrics.

    Attributes:
      default_metric: the metric that early stopping goes by unless told otherwise.

    Args:
      tasks: the prepared validation tasks.
      recommender: whose present weights are used.
      tables: features by row.
      config: the section `validation`.
      seed: of the choice.
      training: training interactions, whose items are no candidates for their users; None for none.

    Raises:
      ConfigError: if a state is asked for that the tasks do not have.
    """

    def __init__(self, tasks: TaskSet, *, recommender: Recommender, tables: FeatureTables, config: ValidationConfig,
                 seed: int, training: TrainingRows | None = None):
        self._config = config
        label = recommender.feature_spec.label
        self.default_metric = f"val_{default_metric(tasks, label)}"
        self._catalogue = None
        if positives_only(tasks, label):
            met = (training.of_users(np.unique(tasks.user_row)) if training is not None
                   else Interactions(*(np.zeros(0, t) for t in (np.int32, np.int32, np.float32, np.int64))))
            self._catalogue = Catalogue(met, num_users=tables.num_users, num_items=tables.num_items, label=label,
                                        cutoff=CUTOFF)
        self._unit = recommender.learner.score_unit
        self._scorer = RecommenderScorer(recommender, tables=tables, batch_size=config.batch_size)
        self._label = recommender.feature_spec.label
        for state in config.states or ():
            if len(tasks) and state not in tasks.states:
                raise ConfigError(f"'validation.states' requires states of the validation tasks "
                                  f"({', '.join(tasks.states)}), received '{state}'.")
        rng = np.random.default_rng([seed, _STREAM])
        self._tasks = {}
        if self._catalogue is not None:
            # Whose measure is of the first split.
            tasks = tasks.select(tasks.split == tasks.split.min())
        for state in tasks.states if config.states is None else config.states:
            index = np.flatnonzero(tasks.state == state)
            if config.max_tasks is not None and len(index) > config.max_tasks:
                index = np.sort(rng.choice(index, config.max_tasks, replace=False))
            if len(index):
                self._tasks[state] = tasks.select(index)

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def require_defined(self, metric: str) -> None:
        """Raises ConfigError if an AUC is undefined on every task, so that nothing could be chosen by it."""
        if not metric.endswith("_auc"):
            return
        for tasks in self._tasks.values():
            real = np.arange(tasks.query_label.shape[1])[None, :] < tasks.query_length[:, None]
            relevant = tasks.query_label >= self._label.threshold
            if ((real & relevant).any(axis=1) & (real & ~relevant).any(axis=1)).any():
                return
        raise ConfigError(f"Early stopping by '{metric}' requires validation queries with labels on both sides of the "
                          f"threshold of relevance, {self._label.threshold:g}; there are none. Prepare data with "
                          "another threshold of the label or with larger queries, or train all epochs with "
                          "early_stopping=null.")

    @property
    def metrics(self) -> list[str]:
        """Names of all metrics of one validation."""
        if self._catalogue is not None:
            names = self._catalogue.metrics
        else:
            names = {"rating": ("auc", "mae"), "probability": ("auc", "logloss"), "preference": ("auc",)}[self._unit]
        prefixes = ["val", "val_base", *(f"val_{state}" for state in self._tasks)]
        return [f"{p}_{n}" for p in prefixes for n in names]

    def __call__(self) -> dict[str, float]:
        """Returns every metric under the present weights."""
        values = {}
        for state, tasks in self._tasks.items():
            for role, measured in self._measure(tasks).items():
                for name, value in measured.items():
                    values[role, state, name] = _mean(value)
        result = {}
        for name in self.metrics:
            prefix, metric = name.rsplit("_", 1)
            role = "base" if prefix == "val_base" else "adapted"
            states = self._tasks if prefix in ("val", "val_base") else [prefix.removeprefix("val_")]
            result[name] = _mean(np.array([values[role, state, metric] for state in states]))
        return result

    def _measure(self, tasks: TaskSet) -> dict[str, dict[str, np.ndarray]]:
        """Returns role -> metric -> `[T]`."""
        whole, tasks = tasks, tasks.truncate(None if self._config.k == "all" else self._config.k)
        if self._catalogue is not None:
            return {role: self._catalogue.measure(self._scorer, blind, part=whole)
                    for role, blind in (("adapted", tasks), ("base", tasks.truncate(0)))}
        adapted, base = self._scorer.score_both(tasks)
        return {role: self._of_query(scores, tasks) for role, scores in (("adapted", adapted), ("base", base))}

    def _of_query(self, scores: np.ndarray, tasks: TaskSet) -> dict[str, np.ndarray]:
        label, query = self._label, (tasks.query_label, tasks.query_length)
        values = {"auc": ranking.auc(scores, *query, threshold=label.threshold)}
        if self._unit == "rating":
            values["mae"] = rating.mae(scores, *query, minimum=label.minimum, maximum=label.maximum)
        elif self._unit == "probability":
            values["logloss"] = rating.logloss(scores, *query, threshold=label.threshold)
        return values


def _mean(values: np.ndarray) -> float:
    """Mean of what is defined; NaN where nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
