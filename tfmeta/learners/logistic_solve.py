"""Batched logistic regression of a linear head around a prior: damped Newton steps, each a ridge system."""

from typing import NamedTuple

import tensorflow as tf

from tfmeta.learners.linear_solve import Whitened, in_range, smaller_form, solve_spd, whitening_scale

# Least curvature of a row. It bounds the step where a row is predicted with certainty and wrong; the optimum is where
# the gradient vanishes, so it does not move.
_LEAST_CURVATURE = 1e-6
_LARGEST_CONFIDENCE = 1e6


class LogisticRows(NamedTuple):
    """The observations of a logistic loss; all `[B, S]`."""

    used: tf.Tensor  # bool
    positive: tf.Tensor  # 1 or 0
    confidence: tf.Tensor  # weight of the row, 0 where it does not count

    def slope(self, output: tf.Tensor) -> tf.Tensor:
        """Returns the derivative of the log likelihood by the logits."""
        return self.confidence * (self.positive - tf.sigmoid(output))

    def curvature(self, output: tf.Tensor) -> tf.Tensor:
        """Returns the negative second derivative."""
        probability = tf.sigmoid(output)
        return self.confidence * tf.maximum(probability * (1 - probability), _LEAST_CURVATURE)


def solve_logistic(features: tf.Tensor, output: tf.Tensor, *, target: tf.Tensor, length: tf.Tensor,
                   precision: tf.Tensor, steps: int) -> tf.Tensor:
    """Returns d `[B, P]` after Newton steps from zero on the penalised logistic loss

        sum_i c_i log(1 + exp(-s_i (output_i + f_i . d))) + 1/2 sum_j lambda_j d_j^2

    with `s_i = 1` for a target above zero, else -1, and the confidence `c_i = max(target_i, 1)`. A Newton step v is
    shortened to `log(1 + R) / R` of its length, R the largest change `|f_i . v|` of an output: the third derivative of
    the logistic loss is bounded by the second, so a shortened step always lowers the loss, and near the optimum,
    where R vanishes, it is a full one.

    Sources: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm 3.1 (the dual form);
    Bach, "Self-concordant analysis for logistic regression", 2010, section 2 (the damping).

    Args:
      features: f `[B, S, P]`.
      output: `[B, S]`, logits under the prior.
      target: `[B, S]`, clicks or non-negative weights.
      length: `[B]` int32, real rows.
      precision: lambda `[P]` or `[B, P]`, positive.
      steps: number of Newton steps.
    """
    rows = logistic_rows(target, length)
    scale = whitening_scale(precision)
    whitened = in_range(features, rows.used, scale=scale)
    return scale * solve_logistic_whitened(whitened, tf.where(rows.used, output, tf.zeros_like(output)), rows=rows,
                                           steps=steps)


def solve_logistic_whitened(whitened: Whitened, output: tf.Tensor, *, rows: LogisticRows, steps: int) -> tf.Tensor:
    """Returns z `[B, P]` after damped Newton steps on the logistic loss with the penalty `|z|^2 / 2`.

    Args:
      whitened: F `[B, S, P]`, zero in padding.
      output: `[B, S]`, logits where z is zero; 0 in padding.
      rows: of the same support.
      steps: number of Newton steps.
    """
    features = whitened.rows
    # Curvatures are at most a quarter of the confidence.
    largest = tf.reduce_max(rows.confidence, axis=1)[:, None, None]

    def primal():
        z = tf.zeros_like(features[:, 0, :])
        moved = tf.zeros_like(output)
        for _ in range(steps):
            slope, curvature = rows.slope(output + moved), rows.curvature(output + moved)
            weighted = features * tf.sqrt(curvature)[..., None]
            hessian = whitened.added(tf.linalg.matmul(weighted, weighted, transpose_a=True), growth=largest)
            step = solve_spd(hessian, tf.linalg.matvec(features, slope, transpose_a=True) - z)
            change = tf.linalg.matvec(features, step)
            share = _share(change)
            z, moved = z + share * step, moved + share * change
        return z

    def dual():
        # z = F^T a throughout; only a [B, S] and the Gram matrix of the rows are needed.
        gram = tf.linalg.matmul(features, features, transpose_b=True)
        a = tf.zeros_like(output)
        moved = tf.zeros_like(output)
        for _ in range(steps):
            slope, curvature = rows.slope(output + moved), rows.curvature(output + moved)
            root = tf.sqrt(curvature)
            b = curvature * moved + slope
            matrix = whitened.added(root[..., :, None] * gram * root[..., None, :], growth=largest)
            step = b - root * solve_spd(matrix, root * tf.linalg.matvec(gram, b)) - a
            change = tf.linalg.matvec(gram, step)
            share = _share(change)
            a, moved = a + share * step, moved + share * change
        return tf.linalg.matvec(features, a, transpose_a=True)

    return smaller_form(features, primal=primal, dual=dual)


def logistic_rows(target: tf.Tensor, length: tf.Tensor) -> LogisticRows:
    """Reads clicks or non-negative weights `[B, S]`; rows beyond `length [B]` and what is no number do not count."""
    used = tf.sequence_mask(length, tf.shape(target)[1]) & tf.math.is_finite(target)
    target = tf.where(used, target, tf.zeros_like(target))
    return LogisticRows(used=used, positive=tf.cast(target > 0, target.dtype),
                        confidence=tf.cast(used, target.dtype) * tf.clip_by_value(target, 1.0, _LARGEST_CONFIDENCE))


def _share(change: tf.Tensor) -> tf.Tensor:
    """Returns `log(1 + R) / R` `[B, 1]`, R the largest magnitude in each row of `change [B, S]`."""
    largest = tf.reduce_max(tf.abs(change), axis=1, keepdims=True)
    # The series' first term where the quotient is 0 / 0.
    safe = tf.maximum(largest, 1e-6)
    return tf.where(largest > 1e-6, tf.math.log1p(safe) / safe, 1 - largest / 2)
