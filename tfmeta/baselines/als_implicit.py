"""Matrix factorisation of implicit feedback whose user vectors are solved from the support."""

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.positives import support_positives, training_positives
from tfmeta.baselines.solve_rows import solve_rows
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet

# Weight of an item's popularity among what has the same score.
_TIE = 1e-6


@dataclasses.dataclass
class ALSImplicit(Baseline):
    """Factorises confidence-weighted preferences; every absent pair is a weak negative.

        min  sum over all u, i of c_ui (p_ui - x_u . y_i)^2 + ridge (|x_u|^2 + |y_i|^2)
        p_ui = 1 for a positive, else 0;    c_ui = 1 + confidence * strength_ui
        x_u  = (Y'Y + Y'(C_u - 1)Y + ridge)^-1 Y' C_u p_u

    Source: Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008, sections 4
    and 4.1. A task's user is solved from its support alone, items held fixed. Scores only order; popularity breaks
    ties, so it alone orders for an empty support and among items without a factor.

    Attributes:
      factors: length of the vectors.
      ridge: of both sides.
      confidence: alpha of the paper.
      sweeps: alternations, each over all users and all items.
      seed: of the initial item factors.
    """

    factors: int = 64
    ridge: float = 30.0
    confidence: float = 10.0
    sweeps: int = 6
    seed: int = 0

    name: ClassVar[str] = "als_implicit"
    label_unit: ClassVar[bool] = False
    made_for: ClassVar[tuple[str, ...]] = ("click", "weight")

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"factors": f, "ridge": r, "confidence": c}
                for f in (32, 64) for r, c in ((1.0, 1.0), (3.0, 3.0), (10.0, 10.0), (30.0, 10.0), (30.0, 30.0),
                                               (100.0, 30.0))]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("factors", "sweeps", minimum=1)
        self._require_positive("ridge", minimum=1e-6)
        self._require_positive("confidence")
        self.label = prepared.feature_spec.label
        strength = training_positives(prepared)
        by_item = strength.T.tocsr()
        count = np.diff(by_item.indptr)
        self.popularity = count / max(count.max(initial=0), 1)
        rng = np.random.default_rng([self.seed, 17])
        item = rng.normal(0, 0.1, (strength.shape[1], self.factors)) * (count > 0)[:, None]
        for _ in range(self.sweeps):
            user = self._solve(strength, item)
            item = self._solve(by_item, user)
        self.item_table = item
        return self

    def user_vectors(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T, factors]` float64, solved from each task's support."""
        return self._solve(support_positives(tasks, num_items=len(self.item_table) - 1, label=self.label),
                           self.item_table)

    def score(self, tasks: TaskSet) -> np.ndarray:
        score = _TIE * self.popularity[tasks.query_item]
        user, step = self.user_vectors(tasks), max(1, (1 << 23) // tasks.query_item.shape[1])
        for start in range(0, len(tasks), step):
            rows = slice(start, start + step)
            # All items at once cost less than gathering many of them.
            if tasks.query_item.shape[1] * 8 > len(self.item_table):
                everything = user[rows] @ self.item_table.T
                score[rows] += np.take_along_axis(everything, tasks.query_item[rows] % len(self.item_table), axis=1)
            else:
                score[rows] += np.einsum("tf,tqf->tq", user[rows], self.item_table[tasks.query_item[rows]])
        return score

    def _solve(self, strength: scipy.sparse.csr_matrix, table: np.ndarray) -> np.ndarray:
        extra = self.confidence * strength
        target = extra.copy()
        target.data = target.data + 1.0
        return solve_rows(extra, target, table, penalty=table.T @ table + self.ridge * np.eye(self.factors))
