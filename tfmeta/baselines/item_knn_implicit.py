"""Neighbourhood model of implicit feedback: what was met together."""

import dataclasses
import itertools
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.item_knn import weighted_content
from tfmeta.baselines.positives import support_positives, training_positives
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet

# Scores of all items that are held at once.
_HELD = 1 << 23


@dataclasses.dataclass
class ItemKNNImplicit(Baseline):
    """Mean similarity of an item to the support's positives.

        score(u, i) = sum_j w_j (s_ij + content c_ij) / sum_j w_j + popularity n_i / max n
        s_ij = n_ij / (n_j^asymmetry n_i^(1 - asymmetry) + shrinkage),   s_ii = 0

    over the positives j of the support with strengths `w`; `n` counts training users, `c` is the cosine of content
    vectors. With asymmetry 1/2 and no shrinkage `s` is the cosine of Deshpande and Karypis, "Item-based top-N
    recommendation algorithms", TOIS 2004, section 4.1; asymmetry 1 is their conditional probability. The mean instead
    of the sum only rescales a user's scores. Cold items live by content, an empty support by popularity.

    Attributes:
      shrinkage: added to the denominator.
      asymmetry: share of the support item's count in the denominator, in [0, 1].
      content: weight of the similarity of content, whose columns are weighted by inverse document frequency.
      popularity: weight of an item's share of the most popular item's count.
    """

    shrinkage: float = 20.0
    asymmetry: float = 0.7
    content: float = 0.02
    popularity: float = 1e-4

    name: ClassVar[str] = "item_knn_implicit"
    label_unit: ClassVar[bool] = False
    made_for: ClassVar[tuple[str, ...]] = ("click", "weight")

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"shrinkage": s, "asymmetry": a, "content": c}
                for s, a, c in itertools.product((5.0, 20.0, 50.0), (0.5, 0.7), (0.01, 0.03))]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("shrinkage", "asymmetry", "content", "popularity")
        self.label = prepared.feature_spec.label
        known = (training_positives(prepared) > 0).astype(np.float64)
        count = np.asarray(known.sum(axis=0)).ravel()
        both = (known.T @ known).tocoo()
        apart = both.row != both.col
        row, column, value = both.row[apart], both.col[apart], both.data[apart]
        value = value / (count[row] ** self.asymmetry * count[column] ** (1.0 - self.asymmetry) + self.shrinkage)
        self.similarity = scipy.sparse.csr_matrix((value, (row, column)), shape=both.shape)
        content = weighted_content(prepared)
        length = np.sqrt(np.asarray(content.multiply(content).sum(axis=1)).ravel())
        scale = np.where(length > 0, 1.0 / np.where(length > 0, length, 1.0), 0.0)
        self.content_vectors = (scipy.sparse.diags(scale) @ content).tocsr()
        self._by_column = self.content_vectors.T.tocsr()
        self.by_count = self.popularity * count / max(count.max(initial=0.0), 1.0)
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        size = self.similarity.shape[0]
        weight = support_positives(tasks, num_items=size - 1, label=self.label)
        total = np.asarray(weight.sum(axis=1)).ravel()
        weight = (scipy.sparse.diags(np.where(total > 0, 1.0 / np.where(total > 0, total, 1.0), 0.0)) @ weight).tocsr()
        result = self.by_count[tasks.query_item]
        step = max(1, _HELD // size)
        for start in range(0, len(tasks), step):
            rows = slice(start, start + step)
            score = (weight[rows] @ self.similarity).toarray()
            if self.content:
                score += self.content * ((weight[rows] @ self.content_vectors) @ self._by_column).toarray()
            result[rows] += np.take_along_axis(score, tasks.query_item[rows] % size, axis=1)
        return result
