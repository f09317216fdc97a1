"""Explicit matrix factorisation whose user vectors are solved from the support."""

import dataclasses
import itertools
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse

from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.biases import Biases
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet

# Rows whose [rows, width * width] normal matrices are held at once: 128 MiB at width 17.
_CHUNK = 1 << 25


@dataclasses.dataclass
class ALSFoldIn(Baseline):
    """Factorises the residuals of damped biases by alternating least squares; a new user costs one ridge solve.

    With `V` the factors of a user's items and `r` the residuals of the labels after the item biases, the user's
    vector is `(V'V + user_ridge I)^-1 V'r`, with a user bias as one more, separately damped, coordinate (Koren,
    Bell and Volinsky, "Matrix factorization techniques for recommender systems", 2009). Test users are solved
    from their supports alone, with the items held fixed. An empty support leaves the item biases; an item
    without training interactions has bias 0 and no factors.

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
            user = _ridge(known, value, item, self._user_ridge())
            # r - user bias, as a sparse matrix with the same pattern.
            shifted = value_by_item.copy()
            shifted.data = shifted.data - user[known_by_item.indices, 0]
            item[:, 1:] = _ridge(known_by_item, shifted, user[:, 1:], np.full(self.factors, self.item_ridge))
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
        return _ridge(known, value, self.item_table, self._user_ridge())

    def _user_ridge(self) -> np.ndarray:
        return np.append(max(self.user_damping, 1e-6), np.full(self.factors, self.user_ridge))


def _ridge(known: scipy.sparse.csr_matrix, value: scipy.sparse.csr_matrix, table: np.ndarray,
           ridge: np.ndarray) -> np.ndarray:
    """Solves one ridge regression per row.

    Args:
      known: `[R, C]` ones where there is an interaction.
      value: `[R, C]` targets on the same pattern.
      table: `[C, f]` regressors of the columns.
      ridge: `[f]` penalty of each coefficient.

    Returns:
      `[R, f]` float64 coefficients; zeros for a row without interactions.
    """
    width = table.shape[1]
    # Normal matrices are symmetric: only the upper triangles are summed.
    upper = np.triu_indices(width)
    outer = table[:, upper[0]] * table[:, upper[1]]
    right = value @ table
    result = np.empty((known.shape[0], width))
    step = max(1, _CHUNK // (2 * width * width))
    for start in range(0, known.shape[0], step):
        rows = slice(start, start + step)
        packed = known[rows] @ outer
        normal = np.empty((len(packed), width, width))
        normal[:, upper[0], upper[1]] = packed
        normal[:, upper[1], upper[0]] = packed
        normal[:, np.arange(width), np.arange(width)] += ridge
        result[rows] = np.linalg.solve(normal, right[rows][:, :, None])[:, :, 0]
    return result
