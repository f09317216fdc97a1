"""What the generator knows, and the best predictions that follow from it."""

import dataclasses

import numpy as np
from scipy.special import ndtr

from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.data.task_set import TaskSet

ORACLE_K = (0, 1, 3, 5, 10, 20, None)


@dataclasses.dataclass(frozen=True)
class SyntheticTruth:
    """Latent parameters of synthetic ratings.

    rating(u, i) = mean + item_bias[i] + bias[u] + taste[u] . vector[i] + noise, with
    taste[u] ~ N(cluster_mean[c], taste_std^2 / D * I) for the user's cluster c and bias[u] ~ N(0,
    user_bias_std^2). Which items a user rates does not depend on taste, so a rating's presence tells nothing.

    Attributes:
      config: the generator's settings.
      taste: `[U, D]`; bias: `[U]`.
      vector: `[I, D]`; item_bias: `[I]`.
      cluster_mean: `[C, D]`.
      cluster_prior: `[U, C]` probability of each cluster given the user's features.
    """

    config: SyntheticConfig
    taste: np.ndarray
    bias: np.ndarray
    vector: np.ndarray
    item_bias: np.ndarray
    cluster_mean: np.ndarray
    cluster_prior: np.ndarray

    def expected_label(self, user_row: np.ndarray, item_row: np.ndarray) -> np.ndarray:
        """Returns E[label | everything latent], float64, for broadcastable rows: no predictor has a lower
        MSE.

        Exact in both modes: rounded labels have the expectation of the rounded and clipped normal.
        """
        mean = (self.config.rating_mean + self.item_bias[item_row] + self.bias[user_row]
                + (self.taste[user_row] * self.vector[item_row]).sum(-1))
        return expected_rounded(mean, self.config.std("noise")) if self.config.rounded else mean

    def fold_in(self, *, user_row: np.ndarray, support_item: np.ndarray, support_label: np.ndarray,
                support_length: np.ndarray, query_item: np.ndarray) -> np.ndarray:
        """Returns the exact posterior mean of the query labels given a support and the user's features.

        With true item parameters known, a user is Bayesian linear regression with a mixture-of-Gaussians
        prior (Bishop, Pattern Recognition and Machine Learning, sections 2.3.3 and 3.3): given cluster c
        the posterior of theta = [bias, taste] is normal with precision L = P + X'X / s2, the same for every
        c, and mean m_c + L^-1 X'(y - X m_c) / s2; clusters are weighted by prior times the evidence
        exp(-(|r_c|^2 - r_c'X L^-1 X'r_c / s2) / (2 s2)) with r_c = y - X m_c. No predictor that sees only
        these `k` ratings, the features and the items has a lower expected squared error. With rounded
        labels the rounding counts as noise of variance 1/12, which is an approximation.

        Args:
          user_row: `[T]`.
          support_item, support_label: `[T, S]`, padded on the right with anything.
          support_length: `[T]`.
          query_item: `[T, Q]`; rows outside the catalogue give NaN.

        Returns:
          `[T, Q]` float64.
        """
        settings, size = self.config, self.vector.shape[1] + 1
        noise = settings.std("noise") ** 2 + (1 / 12 if settings.rounded else 0.0)
        # A share of zero makes a parameter certain; a tiny variance keeps the precision finite.
        prior_precision = np.diag(1.0 / np.maximum(
            [settings.std("user_bias") ** 2, *[settings.std("taste") ** 2 / (size - 1)] * (size - 1)], 1e-12))
        real = np.arange(support_item.shape[1])[None, :] < support_length[:, None]
        items = np.where(real, support_item, 0)
        x = np.where(real[..., None], self._design(items), 0.0)
        y = np.where(real, support_label - settings.rating_mean - self.item_bias[items], 0.0)
        center = np.concatenate([np.zeros((len(self.cluster_mean), 1)), self.cluster_mean], axis=1)
        gram = np.einsum("tsi,tsj->tij", x, x)
        covariance = np.linalg.inv(prior_precision + gram / noise)
        residual = y[:, None, :] - np.einsum("tsi,ci->tcs", x, center)
        residual = np.where(real[:, None, :], residual, 0.0)
        score = np.einsum("tsi,tcs->tci", x, residual)
        shift = np.einsum("tij,tcj->tci", covariance, score) / noise
        evidence = -((residual**2).sum(-1) - (score * shift).sum(-1)) / (2 * noise)
        with np.errstate(divide="ignore"):
            weight = evidence + np.log(self.cluster_prior[user_row])
        weight = np.exp(weight - weight.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)

        valid = (query_item >= 0) & (query_item < len(self.vector))
        items = np.where(valid, query_item, 0)
        query = self._design(items)
        base = (settings.rating_mean + self.item_bias[items])[:, None, :]
        mean = base + np.einsum("tqi,tci->tcq", query, center + shift)
        if settings.rounded:
            variance = np.einsum("tqi,tij,tqj->tq", query, covariance, query) + settings.std("noise") ** 2
            mean = expected_rounded(mean, np.sqrt(variance)[:, None, :])
        return np.where(valid, np.einsum("tc,tcq->tq", weight, mean), np.nan)

    def oracle(self, tasks: TaskSet, *, batch: int = 2048) -> dict[str, np.ndarray]:
        """Returns the best predictions for the queries of tasks.

        Returns:
          `expected` (everything latent known) and `fold_in_0`, `fold_in_1`, ..., `fold_in_all` (the first k
          support rows known), each `[T, Q]` float32, NaN in the padding.
        """
        valid = tasks.query_item >= 0
        expected = self.expected_label(tasks.user_row[:, None], np.where(valid, tasks.query_item, 0))
        columns = {"expected": np.where(valid, expected, np.nan).astype(np.float32)}
        for k in ORACLE_K:
            values = np.full(tasks.query_item.shape, np.nan, np.float32)
            for index, part in tasks.truncate(k).batches(batch):
                values[index, :part.query_item.shape[1]] = self.fold_in(
                    user_row=part.user_row, support_item=part.support_item, support_label=part.support_label,
                    support_length=part.support_length, query_item=part.query_item)
            columns[f"fold_in_{'all' if k is None else k}"] = values
        return columns

    def _design(self, items: np.ndarray) -> np.ndarray:
        vectors = self.vector[items]
        return np.concatenate([np.ones((*vectors.shape[:-1], 1)), vectors], axis=-1)


def expected_rounded(mean: np.ndarray, std: np.ndarray | float) -> np.ndarray:
    """Returns E[clip(round(x), 1, 5)] for x ~ N(mean, std^2): 1 + sum over v in 2..5 of P(x >= v - 1/2)."""
    return 1.0 + sum(ndtr((mean - (value - 0.5)) / std) for value in range(2, 6))
