"""All metrics of an evaluation by name."""

import dataclasses

import numpy as np

from tfmeta.data.label import Label
from tfmeta.metrics import ranking, rating
from tfmeta.metrics.ranked_list import RankedList

# Error metrics; of every other metric more is better. `gain_x` has the direction of `x`.
LOWER_IS_BETTER = frozenset({"mae", "mae_median", "mse", "rmse", "rmse_pooled", "logloss"})


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric, or of its gain, is the better one."""
    return metric.removeprefix("gain_") in LOWER_IS_BETTER


@dataclasses.dataclass(frozen=True)
class MetricSet:
    """Computes every metric that a label's unit and a model's output admit, each `[T]` float64.

    | unit | metrics beside the list metrics |
    | --- | --- |
    | rating | mae, mae_median, mse, rmse, accuracy (scores in the label's unit only) |
    | click | accuracy and logloss (probabilities only) |
    | weight | none: scores of weights are unbounded preferences |

    `mse` is there for the pooled RMSE, the root of its mean.

    Attributes:
      label: range, unit and threshold of relevance.
      cutoffs: the k of ndcg, precision, recall, f1 and hit; none leaves out `mrr`, too: AUC is then the only one of the
        order of the query.
      levels: ascending label values for the rounding behind `mae_median`; None leaves it out.
    """

    label: Label
    cutoffs: tuple[int, ...] = (5,)
    levels: tuple[float, ...] | None = None

    def compute(self, score: np.ndarray, label: np.ndarray, length: np.ndarray, *, label_unit: bool = True,
                probability: bool = False, median: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Returns name -> `[T]`, NaN where undefined.

        Args:
          score, label: `[T, Q]`; padding is ignored.
          length: `[T]`.
          label_unit: whether scores are predictions in the label's own unit.
          probability: whether scores are probabilities of relevance.
          median: `[T, Q]` posterior medians of models that have them; otherwise scores are rounded.

        Raises:
          DataError: if a real score or label is NaN.
        """
        result = self._lists(RankedList.of(score, label, length))
        info = self.label
        if info.unit == "rating" and label_unit:
            span = {"minimum": info.minimum, "maximum": info.maximum}
            result["mae"] = rating.mae(score, label, length, **span)
            result["mse"] = rating.mse(score, label, length, **span)
            result["rmse"] = np.sqrt(result["mse"])
            result["accuracy"] = rating.accuracy(score, label, length, threshold=info.threshold,
                                                 cut=info.threshold)
            if median is None and self.levels:
                median = rating.nearest_level(score, self.levels)
            if median is not None:
                result["mae_median"] = rating.mae(median, label, length, **span)
        if probability:
            result["logloss"] = rating.logloss(score, label, length, threshold=info.threshold)
            result["accuracy"] = rating.accuracy(score, label, length, threshold=info.threshold, cut=0.5)
        return result

    def floor(self, label: np.ndarray, length: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the expectation of every metric under random scores, name -> `[T]`.

        List metrics: all orders equally likely. Ratings: scores uniform over the label's range. Clicks:
        probabilities uniform over [0, 1]. `rmse` is the root of the expected square, a little above the
        expected root.
        """
        result = self._lists(RankedList.of(np.zeros(label.shape), label, length))
        info = self.label
        low, high, cut = info.minimum, info.maximum, info.threshold
        real = np.arange(label.shape[1])[None, :] < np.asarray(length)[:, None]
        label = np.where(real, label, 0.0).astype(np.float64)

        def mean(values):
            count = real.sum(axis=1)
            return np.where(count > 0, np.where(real, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)

        if info.unit == "rating":
            width = high - low
            result["mae"] = mean(((label - low) ** 2 + (high - label) ** 2) / (2 * width))
            result["mse"] = mean(((label - low) ** 3 + (high - label) ** 3) / (3 * width))
            result["rmse"] = np.sqrt(result["mse"])
            chance = (high - cut) / width
            result["accuracy"] = mean(np.where(label >= cut, chance, 1.0 - chance))
            if self.levels:
                levels = np.asarray(self.levels, np.float64)
                edges = np.clip(np.concatenate([[low], (levels[1:] + levels[:-1]) / 2, [high]]), low, high)
                share = np.diff(edges) / width
                result["mae_median"] = mean(np.abs(label[:, :, None] - levels) @ share)
        elif info.unit == "click":
            result["accuracy"] = mean(np.full(label.shape, 0.5))
            result["logloss"] = mean(np.ones(label.shape))
        return result

    def ceiling(self, label: np.ndarray, length: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the best attainable value of every metric on the same queries, name -> `[T]`."""
        real = np.arange(label.shape[1])[None, :] < np.asarray(length)[:, None]
        label = np.where(real, label, 0.0)
        result = self._lists(RankedList.of(label, label, length))
        some = np.where(np.asarray(length) > 0, 1.0, np.nan)
        if self.label.unit == "rating":
            names = ("mae", "mse", "rmse", *(("mae_median",) if self.levels else ()))
            result |= {name: 0.0 * some for name in names} | {"accuracy": some}
        elif self.label.unit == "click":
            result |= {"accuracy": some, "logloss": 0.0 * some}
        return result

    def _lists(self, ranked: RankedList) -> dict[str, np.ndarray]:
        threshold = self.label.threshold
        result = {"auc": ranking.auc(ranked, threshold=threshold)}
        for k in self.cutoffs:
            result[f"ndcg@{k}"] = ranking.ndcg(ranked, k=k)
            result[f"ndcg_linear@{k}"] = ranking.ndcg_linear(ranked, k=k)
            for name in ("precision", "recall", "f1", "hit"):
                result[f"{name}@{k}"] = getattr(ranking, name)(ranked, k=k, threshold=threshold)
        if self.cutoffs:
            result["mrr"] = ranking.mrr(ranked, threshold=threshold)
        return result
