"""Explicit matrix factorisation whose user vectors are solved from the support."""

import dataclasses
import itertools
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.biases import Biases
from tfmeta.baselines.solve_rows import solve_rows
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass
class ALSFoldIn(Baseline):
    """Factorises the residuals of damped biases by alternating least squares; a new user costs one ridge solve.

    With `V` the factors of a user's items and `r` the residuals of the labels after the item biases, the user's
    vector is `(V'V + user_ridge I)^-1 V'r`, with a user bias as one more, separately damped, coordinate (Koren,
    Bell and Volinsky, "Matrix factorization techniques for recommender systems", IEEE Computer 2009, sections "Learning
    algorithms" and "Adding biases"). Test users are solved from their supports alone, with the items held fixed. An
    empty support leaves the item biases; an item without training interactions has bias 0 and no factors.

    Attributes:
      factors: length of the vectors.
      user_ridge: ridge of a user's vector.
      item_ridge: ridge of an item's vector.
      user_damping: ridge of the user bias.
      item_damping: damping of the item biases.
      sweeps: alternations, each over all items and all users.
      seed: of the initial item factors.
    """

    factors: int = 16
    user_ridge: float = 8.0
    item_ridge: float = 8.0
    user_damping: float = 5.0
    item_damping: float = 5.0
    sweeps: int = 12
    seed: int = 0

    name: ClassVar[str] = "als_fold_in"
    made_for: ClassVar[tuple[str, ...]] = ("rating", "click")

    @classmethod
    def grid(cls) -> list[dict[str, Any]]:
        return [{"factors": f, "user_ridge": u, "item_ridge": i}
                for f, u, i in itertools.product((16, 32), (4.0, 8.0, 12.0), (8.0, 16.0))]

    def fit(self, prepared: PreparedData) -> Self:
        self._require_positive("factors", minimum=1)
        self._require_positive("user_ridge", "item_ridge", minimum=1e-6)
        self._require_positive("user_damping", "item_damping")
        train, num_users, num_items = prepared.train, len(prepared.users), len(prepared.items)
        self.biases = Biases.fit(train, num_users=num_users, num_items=num_items,
                                 item_damping=self.item_damping, user_damping=self.user_damping)
        residual = train.label - self.biases.mean - self.biases.item_bias[train.item_row]
        shape = (num_users, num_items + 1)
        pairs = (train.user_row, train.item_row)
        known = scipy.sparse.csr_matrix((np.ones(len(train)), pairs), shape=shape)
        value = scipy.sparse.csr_matrix((residual, pairs), shape=shape)
        known_by_item, value_by_item = known.T.tocsr(), value.T.tocsr()
        rng = np.random.default_rng([self.seed, 16])
        seen = np.diff(known_by_item.indptr) > 0
        # Column 0 of the items is the constant 1 that carries the user bias.
        item = np.column_stack([np.ones(num_items + 1),
                                rng.normal(0, 0.1, (num_items + 1, self.factors)) * seen[:, None]])
        for _ in range(self.sweeps):
            user = solve_rows(known, value, item, penalty=self._user_penalty())
            # r - user bias, as a sparse matrix with the same pattern.
            shifted = value_by_item.copy()
            shifted.data = shifted.data - user[known_by_item.indices, 0]
            item[:, 1:] = solve_rows(known_by_item, shifted, user[:, 1:],
                                     penalty=self.item_ridge * np.eye(self.factors))
        self.item_table = item
        return self

    def score(self, tasks: TaskSet) -> np.ndarray:
        user = self.user_vectors(tasks)
        query = self.item_table[tasks.query_item]
        return (self.biases.mean + self.biases.item_bias[tasks.query_item]
                + np.einsum("tf,tqf->tq", user, query))

    def user_vectors(self, tasks: TaskSet) -> np.ndarray:
        """Returns `[T, 1 + factors]` float64: user bias and vector, solved from each task's support."""
        count, width = tasks.support_item.shape
        real = np.arange(width)[None, :] < tasks.support_length[:, None]
        indptr = np.append(0, np.cumsum(tasks.support_length, dtype=np.int64))
        # Row -1, an unknown item, is the last row of the table.
        columns = tasks.support_item[real] % len(self.item_table)
        shape = (count, len(self.item_table))
        known = scipy.sparse.csr_matrix((np.ones(len(columns)), columns, indptr), shape=shape)
        value = scipy.sparse.csr_matrix((self.biases.support_residual(tasks)[real], columns, indptr), shape=shape)
        return solve_rows(known, value, self.item_table, penalty=self._user_penalty())

    def _user_penalty(self) -> np.ndarray:
        return np.diag(np.append(max(self.user_damping, 1e-6), np.full(self.factors, self.user_ridge)))
