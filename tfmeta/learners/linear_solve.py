"""Batched ridge systems of a linear head: pure functions, differentiable, exact, safe for any finite or infinite input.

All solve for the deviation `d [B, P]` from a prior,

    minimise over d   sum_i w_i (r_i - f_i . d)^2 + sum_j lambda_j d_j^2

with features `f [B, S, P]`, residuals `r [B, S]`, row weights `w [B, S]` (0 leaves a row out) and precision
`lambda [P]` or `[B, P]`. In whitened coordinates `z = sqrt(lambda) d` the matrix is `I + F^T F` with
`F = sqrt(w) f / sqrt(lambda)`, or `I + F F^T` in the dual form (Woodbury): its eigenvalues are at least 1 in either,
so a Cholesky factorisation in float32 is accurate. The smaller of the two matrices is factorised.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfmeta.learners.scale_rows import scale_rows

# Share of the trace, in roundings, below which eigenvalues of a factorised matrix must not lie.
_ROUNDINGS = 128
_FEW_COLUMNS = 16


def solve_ridge(features: tf.Tensor, residual: tf.Tensor, *, row_weight: tf.Tensor | None = None,
                precision: tf.Tensor) -> tf.Tensor:
    """Returns the ridge solution d `[B, P]`; exactly zero for a task without rows.

    A row of weight 0 may hold anything. A task whose features or weights leave the range of floats when squared gets
    zero: the prior.

    Args:
      features: f `[B, S, P]`.
      residual: r `[B, S]`, what the prior leaves unexplained.
      row_weight: w `[B, S]`, not negative: the inverse noise variance of each row, 0 for padding; or bool, 1 where
        true. None stands for 1 in every row.
      precision: lambda `[P]`, `[1]` or `[B, P]`, positive.
    """
    scale = whitening_scale(precision)
    return scale * _solve(*_conditioned(features, residual, row_weight, scale))


class Whitened(NamedTuple):
    """Rows F of a system in whitened coordinates, fit to be factorised."""

    rows: tf.Tensor  # [B, S, P], the sum of squares finite in each task
    trace: tf.Tensor  # [B, 1, 1], that sum: the trace of the Gram matrix

    def added(self, gram: tf.Tensor, *, growth: tf.Tensor | float = 1.0) -> tf.Tensor:
        """Adds the identity to a Gram matrix, or what more its factorisation needs where it is huge.

        Args:
          gram: `[B, N, N]`.
          growth: bound of its trace over that of F, scalar or `[B, 1, 1]`.
        """
        return _plus_identity(gram, _least(growth * self.trace)[..., 0])


def whitening_scale(precision: tf.Tensor) -> tf.Tensor:
    """Returns `1 / sqrt(lambda)`, `[1, P]`, `[1, 1]` or `[B, P]`, so that `d = z / sqrt(lambda)`."""
    return tf.math.rsqrt(precision if precision.shape.rank == 2 else precision[None])


def in_range(rows: tf.Tensor, row_weight: tf.Tensor | None = None, *, scale: tf.Tensor | None = None) -> Whitened:
    """Weights rows; sets those of tasks to zero in which the sum of squares, the Gram matrix's trace, is not finite.

    Args:
      rows: `[B, S, P]`; those of weight 0 may hold anything.
      row_weight: as in `solve_ridge`.
      scale: `whitening_scale` of rows that are not whitened yet.
    """
    scale = _wide(scale, rows)
    trace, root = _trace_and_root(rows, row_weight, scale)
    finite = tf.cast(tf.math.is_finite(trace), rows.dtype)
    return Whitened(scale_rows(rows, finite * root, scale), tf.math.multiply_no_nan(trace, finite)[..., None])


def posterior(whitened: Whitened, target: tf.Tensor, *, root: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the d = R^T z `[B, P]` whose z minimises `|target - F z|^2 + |z|^2`, and `posterior_factor`.

    Args:
      whitened: F.
      target: `[B, S]`, 0 in rows that do not count; anything in tasks whose F is zero.
      root: R, as in `posterior_factor`.
    """
    lower = lower_factor(whitened)
    target = tf.math.multiply_no_nan(target, tf.cast(whitened.trace[:, 0] > 0, target.dtype))
    right, found = tf.linalg.matvec(whitened.rows, target, transpose_a=True), posterior_factor(lower, root)
    if root.shape.rank == 2:
        # L^-1 F^T t = (L^-1 R) R^-1 F^T t: for a single column a product takes a fraction of a triangular solve.
        half = tf.linalg.matvec(found, right / root)
    else:
        half = tf.linalg.triangular_solve(lower, right[..., None])[..., 0]
    return tf.linalg.matvec(found, half, transpose_a=True), found


def lower_factor(whitened: Whitened) -> tf.Tensor:
    """Returns the Cholesky factor L `[B, P, P]` of I + F^T F."""
    return tf.linalg.cholesky(whitened.added(tf.linalg.matmul(whitened.rows, whitened.rows, transpose_a=True)))


def posterior_factor(lower: tf.Tensor, root: tf.Tensor) -> tf.Tensor:
    """Returns L^-1 R `[B, P, P]`: a C with `C^T C = R^T (I + F^T F)^-1 R`, R itself for a task without rows.

    Args:
      lower: L, from `lower_factor`.
      root: R, `[B, P, P]` or `[1, P, P]`; or the diagonal of one for all tasks, `[1, P]`, positive.
    """
    return tf.linalg.triangular_solve(lower, tf.linalg.diag(root) if root.shape.rank == 2 else root)


def _conditioned(features: tf.Tensor, residual: tf.Tensor, row_weight: tf.Tensor | None,
                 scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns F `[B, S, P]` and t `[B, S]` for `_solve`: weighted, and scaled down where `Whitened` would add more.

    Dividing both by the root of c is adding c times the identity. All factors are put together first, so that the
    features are multiplied once.
    """
    scale = _wide(scale, features)
    trace, root = _trace_and_root(features, row_weight, scale)
    factor = tf.where(tf.math.is_finite(trace), tf.math.rsqrt(_least(trace)), tf.zeros_like(trace)) * root
    return scale_rows(features, factor, scale), tf.math.multiply_no_nan(residual, factor)


def _wide(scale: tf.Tensor | None, rows: tf.Tensor) -> tf.Tensor:
    """Returns a scale, or ones, with a number for each column, `[1 or B, P]`."""
    ones = tf.ones([1, rows.shape[2]], rows.dtype)
    return ones if scale is None else scale * ones


def _trace_and_root(rows: tf.Tensor, row_weight: tf.Tensor | None,
                    scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the trace `[B, 1]` of the Gram matrix of weighted rows times `scale [1 or B, P]`, a constant, and the
    roots `[B, S]` of the weights.
    """
    norm = tf.linalg.matvec(tf.square(tf.stop_gradient(rows)), tf.square(tf.stop_gradient(scale)))
    root = tf.ones_like(norm)
    if row_weight is not None:
        weight = tf.cast(row_weight, rows.dtype)
        root = weight if row_weight.dtype == tf.bool else _root(weight)
        norm = tf.math.multiply_no_nan(norm, tf.stop_gradient(weight))
    return tf.reduce_sum(norm, axis=1, keepdims=True), root


def _solve(rows: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns z `[B, P]` that minimises `|target - F z|^2 + |z|^2`, for F of which the identity is enough."""
    count, width = rows.shape[1], rows.shape[2]
    if count is None and width is not None and not tf.config.list_logical_devices("GPU"):
        return tf.ensure_shape(_least_squares(rows, target), [None, width])
    if count is None and width is not None and width > _FEW_COLUMNS:
        return _solve_either(rows, target)
    if count is not None and count < width:
        return tf.linalg.matvec(rows, solve_spd(_plus_identity(tf.linalg.matmul(rows, rows, transpose_b=True)), target),
                                transpose_a=True)
    gram = tf.linalg.matmul(rows, rows, transpose_a=True)
    return solve_spd(_plus_identity(gram), tf.linalg.matvec(rows, target, transpose_a=True))


def _solve_either(rows: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """`_solve` where the number of rows is known only as the graph runs.

    A condition in the graph takes longer than the solve, so what differs between the forms is chosen by the order of a
    transposition and by slices, one of each pair empty.
    """
    width = rows.shape[2]
    dual = tf.shape(rows)[1] < width
    if_dual, if_primal = tf.where(dual, width + tf.shape(rows)[1], 0), tf.where(dual, 0, width)
    smaller = tf.transpose(rows, tf.where(dual, [0, 1, 2], [0, 2, 1]))
    gram = tf.linalg.matmul(smaller, smaller, transpose_b=True)
    right = tf.concat([target[:, :if_dual], tf.linalg.matvec(rows, target, transpose_a=True)[:, :if_primal]], axis=1)
    found = solve_spd(_plus_identity(gram), right)
    both = [tf.linalg.matvec(smaller, found, transpose_a=True)[:, :if_dual], found[:, :if_primal]]
    return tf.ensure_shape(tf.concat(both, axis=1), [None, width])


@tf.custom_gradient
def _least_squares(rows: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """`_solve` by one operation of TensorFlow's, which chooses the form itself; there is none for GPUs and XLA.

    With A = I + F^T F, z = A^-1 F^T t and u = A^-1 g for the gradient g by z, that by t is F u, that by F is
    (t - F z) u^T - (F u) z^T. Differentiable any number of times.
    """
    solution = tf.raw_ops.MatrixSolveLs(matrix=rows, rhs=target[..., None],
                                        l2_regularizer=tf.constant(1.0, tf.float64), fast=True)[..., 0]

    def gradient(upstream):
        adjoint = upstream - _least_squares(rows, tf.linalg.matvec(rows, upstream))
        by_target = tf.linalg.matvec(rows, adjoint)
        # The same operation on the same tensors: a graph merges the two.
        found = _least_squares(rows, target)
        by_rows = ((target - tf.linalg.matvec(rows, found))[..., None] * adjoint[:, None, :]
                   - by_target[..., None] * found[:, None, :])
        return by_rows, by_target

    return solution, gradient


def smaller_form(rows: tf.Tensor, *, primal: Callable[[], tf.Tensor], dual: Callable[[], tf.Tensor]) -> tf.Tensor:
    """Returns `dual()` where a task has fewer rows S than columns P, else `primal()`.

    The choice is made when the graph is traced if the shape is known then, else when it runs; but few columns are
    factorised in less time than a condition takes.
    """
    count, width = rows.shape[1], rows.shape[2]
    if count is not None:
        return dual() if count < width else primal()
    if width <= _FEW_COLUMNS:
        return primal()
    return tf.cond(tf.shape(rows)[1] < width, dual, primal)


@tf.custom_gradient
def solve_spd(matrix: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Solves `matrix x = target` for symmetric positive definite matrices by Cholesky.

    The gradient is the implicit one, `A^-1 g` by the target and `-(A^-1 g) x^T` by the matrix, which is two triangular
    solves with the same factor instead of the gradient of the factorisation. Differentiable any number of times.

    Args:
      matrix: `[B, N, N]`.
      target: `[B, N]`.

    Returns:
      x `[B, N]`.
    """
    solution = tf.linalg.cholesky_solve(tf.linalg.cholesky(matrix), target[..., None])[..., 0]

    def gradient(upstream):
        # The same factorisation of the same matrix: a graph merges the two.
        adjoint = solve_spd(matrix, upstream)
        outer = adjoint[..., :, None] * solve_spd(matrix, target)[..., None, :]
        return -0.5 * (outer + tf.linalg.matrix_transpose(outer)), adjoint

    return solution, gradient


def _plus_identity(gram: tf.Tensor, factor: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Adds a constant, `[B, 1]` or scalar, to the diagonal: in less time than to repeat the identity."""
    @tf.custom_gradient
    def added(gram):
        return tf.linalg.set_diag(gram, tf.linalg.diag_part(gram) + factor), lambda g: g

    return added(gram)


def _least(trace: tf.Tensor) -> tf.Tensor:
    """Returns the multiple of the identity that a matrix of that trace needs to be factorised."""
    return tf.maximum(np.finfo(trace.dtype.as_numpy_dtype).eps * _ROUNDINGS * trace, 1.0)


def _root(row_weight: tf.Tensor) -> tf.Tensor:
    """The root's derivative at zero is infinite; a row without weight is to have none."""
    positive = row_weight > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, row_weight, tf.ones_like(row_weight))),
                    tf.zeros_like(row_weight))
