"""Neighbourhood model over items: a new user costs no training at all."""

import dataclasses
import itertools
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.content_matrix import content_matrix
from tfmeta.baselines.content_ridge import ContentRidge
from tfmeta.baselines.item_similarity import ItemSimilarity
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet

# Similarities of one chunk of tasks: [tasks, support, query].
_CHUNK = 1 << 23


@dataclasses.dataclass
class ItemKNN(Baseline):
    """Adds to a baseline estimate the residuals of the user's items, weighted by their similarity to the query.

        score(u, i) = b_ui + sum_j s_ij (y_uj - b_uj) / (sum_j |s_ij| + damping),   j in the k items nearest to i

    over the items j of the support; `b_ui = mean + b_i + b_u` are damped biases, of which a new user's comes from the
    support. `s` is the adjusted cosine (Sarwar et al., "Item-based collaborative filtering recommendation
    algorithms", WWW 2001, section 3.1.3) of the residuals of users and items, shrunk by the number of co-ratings
    (Koren, "Factor in the neighbors", TKDD 2010, section 2.2). Deviations: it shrinks towards a similarity of content
    instead of 0, and item biases towards `ContentRidge`'s prediction, so that cold items have both; `power`
    amplifies the nearest. An empty support leaves the baseline estimate.

    Attributes:
      shrinkage: co-ratings at which a similarity is half content.
      content: weight of the cosine of the content vectors, their columns weighted by inverse document frequency.
      power: exponent of the similarities.
      damping: added to the sum of weights.
      neighbours: k; None for the whole support.
      item_damping, user_damping: of the biases.
    """

    shrinkage: float = 20.0
    content: float = 0.3
    power: float = 1.5
    damping: float = 0.1
    neighbours: int | None = None
    item_damping: float = 5.0
    user_damping: float = 4.0

    name: ClassVar[str] = "item_knn"
    made_for: ClassVar[tuple[str, ...]] = ("rating",)

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"shrinkage": s, "power": p, "damping": d, "neighbours": n}
                for (s, p), (d, n) in itertools.product(
                    ((50.0, 1.0), (20.0, 1.5), (50.0, 1.5)),
                    ((0.05, None), (0.1, None), (0.2, None), (0.1, 30)))]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("shrinkage", "power", "damping", minimum=1e-6)
        self._require_positive("content", "item_damping", "user_damping")
        if self.neighbours is not None:
            self._require_positive("neighbours", minimum=1)
        train = prepared.train
        prior = ContentRidge(item_damping=self.item_damping, user_damping=self.user_damping).fit(prepared)
        self.biases = prior.biases
        residual = train.label - self.biases.mean - self.biases.item_bias[train.item_row] \
            - self.biases.user_bias[train.user_row]
        shape = (len(prepared.users), len(prepared.items) + 1)
        value = scipy.sparse.csr_matrix((residual, (train.user_row, train.item_row)), shape=shape)
        self.similarity = ItemSimilarity(value, weighted_content(prepared), shrinkage=self.shrinkage,
                                         content_weight=self.content, power=self.power)
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        user_bias = self.biases.fold_in(tasks)
        real = np.arange(tasks.support_item.shape[1])[None, :] < tasks.support_length[:, None]
        residual = np.where(real, self.biases.support_residual(tasks) - user_bias[:, None], 0.0)
        result = self.biases.mean + self.biases.item_bias[tasks.query_item] + user_bias[:, None]
        support, query = real.shape[1], tasks.query_item.shape[1]
        step = max(1, min(_CHUNK // (support * query), self.similarity.most_rows // support))
        for start in range(0, len(tasks), step):
            rows = slice(start, start + step)
            item = np.where(real[rows], tasks.support_item[rows], -1)
            weight = self.similarity.between(item[:, :, None], tasks.query_item[rows, None, :])
            weight = np.where(real[rows, :, None], weight, 0.0)
            if self.neighbours is not None and self.neighbours < support:
                least = np.partition(np.abs(weight), support - self.neighbours, axis=1)[:, support - self.neighbours]
                weight = np.where(np.abs(weight) >= least[:, None, :], weight, 0.0)
            total = np.einsum("ts,tsq->tq", residual[rows], weight)
            result[rows] += total / (np.abs(weight).sum(axis=1) + self.damping)
        return result


def weighted_content(prepared: PreparedData) -> scipy.sparse.csr_matrix:
    """Returns the content matrix `[I + 1, D]`, each column times log((1 + I) / (1 + items that have it))."""
    fitted = np.bincount(prepared.train.item_row, minlength=len(prepared.items)) > 0
    content = content_matrix(prepared.items, prepared.feature_spec.item_features, fitted=fitted)
    count = np.asarray((content != 0).sum(axis=0)).ravel() if content.shape[1] else np.zeros(0)
    return (content @ scipy.sparse.diags(np.log((1 + content.shape[0]) / (1 + count)))).tocsr()
