"""Batched ridge systems of a linear head: pure functions, differentiable, exact, safe for any finite or infinite input.

All solve for the deviation `d [B, P]` from a prior,

    minimise over d   sum_i w_i (r_i - f_i . d)^2 + sum_j lambda_j d_j^2

with features `f [B, S, P]`, residuals `r [B, S]`, row weights `w [B, S]` (0 leaves a row out) and precision
`lambda [P]` or `[B, P]`. In whitened coordinates `z = sqrt(lambda) d` the matrix is `I + F^T F` with
`F = sqrt(w) f / sqrt(lambda)`, or `I + F F^T` in the dual form (Woodbury): its eigenvalues are at least 1 in either,
so a Cholesky factorisation in float32 is accurate. The smaller of the two matrices is factorised.
"""

import numpy as np
import tensorflow as tf

# A factorisation in floating point needs the least eigenvalue to exceed about this many roundings of the trace.
_ROUNDINGS = 4.0


def solve_ridge(features: tf.Tensor, residual: tf.Tensor, *, row_weight: tf.Tensor,
                precision: tf.Tensor) -> tf.Tensor:
    """Returns the ridge solution d `[B, P]`; exactly zero for a task without rows.

    Padding must be finite and have weight 0. A task whose features or weights leave the range of floats when squared
    gets zero: the prior.

    Args:
      features: f `[B, S, P]`.
      residual: r `[B, S]`, what the prior leaves unexplained.
      row_weight: w `[B, S]`, not negative: the inverse noise variance of each row, 0 for padding.
      precision: lambda `[P]` or `[B, P]`, positive.
    """
    whitened, scale = whiten(features, row_weight=row_weight, precision=precision)
    return scale * solve_whitened(whitened, _safe_sqrt(row_weight) * residual)


def ridge_posterior(features: tf.Tensor, residual: tf.Tensor, *, row_weight: tf.Tensor,
                    precision: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns d `[B, P]` and a factor C `[B, P, P]` of the posterior covariance `(f^T diag(w) f + diag(lambda))^-1`.

    The covariance is `C C^T`, so a linear function `x . d` has the variance `|x C|^2`. Arguments as in `solve_ridge`;
    w and lambda are in units of the inverse noise variance, if the covariance is to be absolute.
    """
    whitened, scale = whiten(features, row_weight=row_weight, precision=precision)
    delta = scale * solve_whitened(whitened, _safe_sqrt(row_weight) * residual)
    return delta, scale[..., None] * covariance_factor(whitened)


def whiten(features: tf.Tensor, *, row_weight: tf.Tensor, precision: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns F `[B, S, P]` and `1 / sqrt(lambda)` `[1, P]` or `[B, P]`, so that `d = z / sqrt(lambda)`."""
    scale = tf.math.rsqrt(precision if precision.shape.rank == 2 else precision[None])
    return in_range(features * _safe_sqrt(row_weight)[..., None] * scale[:, None, :]), scale


def in_range(whitened: tf.Tensor) -> tf.Tensor:
    """Replaces F `[B, S, P]` by zeros for tasks in which the sum of its squares is not finite."""
    finite = tf.math.is_finite(tf.reduce_sum(tf.square(tf.stop_gradient(whitened)), axis=[1, 2], keepdims=True))
    return tf.where(finite, whitened, tf.zeros_like(whitened))


def solve_whitened(whitened: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Returns z `[B, P]` that minimises `|target - F z|^2 + |z|^2`.

    Args:
      whitened: F `[B, S, P]`, in range (`in_range`).
      target: `[B, S]`.
    """
    def primal():
        gram = tf.linalg.matmul(whitened, whitened, transpose_a=True)
        return solve_spd(plus_identity(gram), tf.linalg.matvec(whitened, target, transpose_a=True))

    def dual():
        gram = tf.linalg.matmul(whitened, whitened, transpose_b=True)
        return tf.linalg.matvec(whitened, solve_spd(plus_identity(gram), target), transpose_a=True)

    return smaller_form(whitened, primal=primal, dual=dual)


def smaller_form(whitened: tf.Tensor, *, primal, dual) -> tf.Tensor:
    """Returns `dual()` where the task has fewer rows S than columns P, else `primal()`.

    The choice is made when the graph is traced if the shape is known then, else when it runs.
    """
    rows, width = whitened.shape[1], whitened.shape[2]
    if rows is not None:
        return dual() if rows < width else primal()
    return tf.cond(tf.shape(whitened)[1] < width, dual, primal)


def covariance_factor(whitened: tf.Tensor) -> tf.Tensor:
    """Returns C `[B, P, P]`, upper triangular, with `C C^T = (I + F^T F)^-1`; the identity for a task without rows."""
    gram = plus_identity(tf.linalg.matmul(whitened, whitened, transpose_a=True))
    lower = tf.linalg.cholesky(gram)
    inverse = tf.linalg.triangular_solve(lower, tf.eye(gram.shape[-1], dtype=gram.dtype)[None])
    return tf.linalg.matrix_transpose(inverse)


def plus_identity(gram: tf.Tensor) -> tf.Tensor:
    """Adds to a Gram matrix `[B, N, N]` the identity, or what more its factorisation needs where it is huge."""
    size = gram.shape[-1] or tf.shape(gram)[-1]
    trace = tf.linalg.trace(tf.stop_gradient(gram))
    limit = _ROUNDINGS * np.finfo(gram.dtype.as_numpy_dtype).eps * tf.cast(size, gram.dtype)
    jitter = tf.maximum(tf.ones_like(trace), limit * trace)
    return tf.linalg.set_diag(gram, tf.linalg.diag_part(gram) + jitter[:, None])


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


def _safe_sqrt(value: tf.Tensor) -> tf.Tensor:
    """Square root whose gradient is zero, not infinite, at zero."""
    positive = value > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, value, tf.ones_like(value))), tf.zeros_like(value))

