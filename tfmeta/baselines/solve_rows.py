"""Many small penalised least-squares problems at once."""

import numpy as np
import scipy.sparse

# Numbers in the [rows, width, width] normal matrices that are held at once: 128 MiB of float64.
_HELD = 1 << 24


def solve_rows(weight: scipy.sparse.csr_matrix, target: scipy.sparse.csr_matrix, table: np.ndarray, *,
               penalty: np.ndarray) -> np.ndarray:
    """Solves `(sum_c weight_rc t_c t_c' + penalty) x_r = sum_c target_rc t_c` for every row r.

    Args:
      weight: `[R, C]`, non-negative.
      target: `[R, C]`, of the weighted targets.
      table: `[C, f]` regressors of the columns.
      penalty: `[f, f]`, symmetric and positive definite.

    Returns:
      `[R, f]` float64 coefficients; zeros for a row without targets.
    """
    width = table.shape[1]
    # Of large tables many columns are in no row.
    used = np.unique(np.concatenate([weight.indices, target.indices]))
    if len(used) < len(table):
        weight, target, table = weight[:, used], target[:, used], table[used]
    # Normal matrices are symmetric: only the upper triangles are summed.
    upper = np.triu_indices(width)
    outer = table[:, upper[0]] * table[:, upper[1]]
    right = target @ table
    result = np.zeros((weight.shape[0], width))
    # Of large tables many rows are empty: their solution is known.
    some = np.flatnonzero(np.diff(target.indptr))
    step = max(1, _HELD // (width * width))
    for start in range(0, len(some), step):
        rows = some[start:start + step]
        packed = weight[rows] @ outer
        normal = np.empty((len(packed), width, width))
        normal[:, upper[0], upper[1]] = packed
        normal[:, upper[1], upper[0]] = packed
        normal += penalty
        result[rows] = np.linalg.solve(normal, right[rows][:, :, None])[:, :, 0]
    return result
