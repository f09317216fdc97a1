"""Metrics of one model in one state at one k."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class EvaluationCell:
    """Values of `M` metrics, overall and for each of `U` users.

    Attributes:
      state: one of `STATES`.
      model, role: of the scorer.
      k: support rows at most, or `"all"`.
      seed: of the training; `"mean"` for an aggregate over seeds and for models that have none.
      metrics: `M` names.
      value: `[M]` mean over splits of the mean over users.
      users: `[M]` int, users whose metric is defined in any split.
      user_row: `[U]` int32.
      user_value: `[U, M]` float64, the user's mean over splits; NaN where undefined.
      selected, uses_history, features: as in result rows.
    """

    state: str
    model: str
    role: str
    k: int | str
    seed: int | str
    metrics: tuple[str, ...]
    value: np.ndarray
    users: np.ndarray
    user_row: np.ndarray
    user_value: np.ndarray
    selected: bool = False
    uses_history: bool = False
    features: str = "full"

    @classmethod
    def of(cls, metrics: dict[str, np.ndarray], *, user_row: np.ndarray, split: np.ndarray,
           query_length: np.ndarray, **labels) -> "EvaluationCell":
        """Averages values per task.

        Args:
          metrics: name -> `[T]`, NaN where undefined. `mse` also gives `rmse_pooled`: the root of the mean over
            all query items of a split, averaged over splits.
          user_row, split, query_length: `[T]`.
          **labels: state, model, role, k, seed and so on.
        """
        names = tuple(metrics)
        values = np.stack([metrics[name] for name in names], axis=1)
        users, user_index = np.unique(user_row, return_inverse=True)
        splits, split_index = np.unique(split, return_inverse=True)
        user_value = _group_mean(values, user_index, len(users))
        value = _mean(_group_mean(values, split_index, len(splits)))
        count = (~np.isnan(user_value)).sum(axis=0)
        if "mse" in metrics:
            pooled = _group_mean(values[:, [names.index("mse")]], split_index, len(splits),
                                 weight=np.asarray(query_length, np.float64))
            names += ("rmse_pooled",)
            value = np.append(value, _mean(np.sqrt(pooled)))
            count = np.append(count, count[names.index("mse")])
            # A user's part in the pooled error is the mean square; its root is taken after averaging.
            user_value = np.column_stack([user_value, user_value[:, names.index("mse")]])
        return cls(metrics=names, value=value, users=count, user_row=users, user_value=user_value, **labels)

    @classmethod
    def mean(cls, cells: "list[EvaluationCell]") -> "EvaluationCell":
        """Averages the same cell over training seeds; who and which metrics count depends on the test alone."""
        return dataclasses.replace(
            cells[0], seed="mean", value=np.mean([c.value for c in cells], axis=0),
            user_value=np.mean([c.user_value for c in cells], axis=0),
            selected=any(c.selected for c in cells))


def _group_mean(values: np.ndarray, index: np.ndarray, groups: int, *,
                weight: np.ndarray | None = None) -> np.ndarray:
    """Means of `[T, M]` by group `[T]` -> `[groups, M]`, without NaN values."""
    known = ~np.isnan(values)
    weights = known * (1.0 if weight is None else weight[:, None])
    filled = np.where(known, values, 0.0) * weights
    total, mass = (np.stack([np.bincount(index, column, minlength=groups) for column in x.T], axis=1)
                   for x in (filled, weights))
    return np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of `[S, M]` over the splits in which the metric is defined -> `[M]`."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
