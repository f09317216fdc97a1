"""Similarities of items: co-ratings, shrunk towards content."""

import dataclasses

import numpy as np
import scipy.sparse

# Similarities held at once: 256 MiB. A smaller catalogue's are computed once, a larger one's as they are needed.
_HELD = 1 << 26


@dataclasses.dataclass
class ItemSimilarity:
    """`s_ij = (n_ij rho_ij + shrinkage * content * c_ij) / (n_ij + shrinkage)`, then `sign(s) |s|^power`.

    `rho` is the cosine of two items' columns of values, `n` how many users have both, `c` the cosine of their content
    vectors. Without co-ratings the content alone speaks, with many it is overruled; with `content` 0 this is the
    shrunk correlation of Koren, "Factor in the neighbors" (TKDD 2010), section 2.2.

    Args:
      value: `[U, I + 1]` training values by user and item; the last column, for unknown items, is empty.
      content: `[I + 1, D]` content vectors, of any length.
      shrinkage, content_weight, power: above.
    """

    value: scipy.sparse.csr_matrix
    content: scipy.sparse.csr_matrix
    shrinkage: float
    content_weight: float
    power: float

    def __post_init__(self):
        columns = self.value.tocsc().astype(np.float32)
        self._known = columns.copy()
        self._known.data = np.ones_like(columns.data)
        length = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=0), np.float64).ravel())
        self._unit = (columns @ scipy.sparse.diags(_inverse(length))).tocsc().astype(np.float32)
        length = np.sqrt(np.asarray(self.content.multiply(self.content).sum(axis=1), np.float64).ravel())
        self._content = (scipy.sparse.diags(_inverse(length)) @ self.content).tocsr().astype(np.float32)
        self._all = None
        if self.size ** 2 <= _HELD:
            self._all = self._compute(np.arange(self.size))

    @property
    def size(self) -> int:
        """I + 1, the unknown item included."""
        return self.value.shape[1]

    @property
    def most_rows(self) -> int:
        """How many rows may be asked for at once."""
        return self.size if self._all is not None else max(1, _HELD // self.size)

    def rows(self, items: np.ndarray) -> np.ndarray:
        """Returns `[len(items), I + 1]` float32, similarities of these items to all; 0 to the unknown one."""
        return self._compute(items) if self._all is None else self._all[items]

    def between(self, items: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Returns `[...]` float64, the similarities of two arrays of item rows that broadcast; -1 is unknown."""
        if self._all is not None:
            return self._all[items, others].astype(np.float64)
        distinct, place = np.unique(items, return_inverse=True)
        return self._compute(distinct)[place.reshape(items.shape), others].astype(np.float64)

    def _compute(self, items: np.ndarray) -> np.ndarray:
        both = (self._known[:, items].T @ self._known).tocsr()
        cosine = (self._unit[:, items].T @ self._unit).tocsr()
        both.sort_indices()
        cosine.sort_indices()
        result = (self._content[items] @ self._content.T).toarray() if self.content_weight else \
            np.zeros((len(items), self.size), np.float32)
        result *= self.content_weight
        row = np.repeat(np.arange(len(items)), np.diff(both.indptr))
        column, count = both.indices, both.data
        shared = result[row, column] * self.shrinkage
        # A product of unit columns may be stored as an explicit 0, or not at all where it cancels.
        shared += count * (cosine.data if cosine.nnz == both.nnz else np.asarray(cosine[row, column]).ravel())
        result[row, column] = shared / (count + self.shrinkage)
        if self.power != 1.0:
            result = np.sign(result) * np.abs(result) ** np.float32(self.power)
        return result


def _inverse(length: np.ndarray) -> np.ndarray:
    return np.where(length > 0, 1.0 / np.where(length > 0, length, 1.0), 0.0)
