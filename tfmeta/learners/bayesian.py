"""Bayesian linear regression head with a predictive variance."""

import math
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.learner import Learner
from tfmeta.learners.linear_head import head_width
from tfmeta.learners.linear_solve import in_range, lower_factor, posterior, posterior_factor
from tfmeta.learners.linear_system import LinearSystem
from tfmeta.learners.logistic_solve import logistic_rows, solve_logistic_whitened
from tfmeta.learners.losses import binary_cross_entropy, gaussian_likelihood
from tfmeta.learners.ridge import LARGEST_LOG, is_logistic, usable_rows
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast, Shared
from tfmeta.models.layers import seeds
from tfmeta.models.meta_model import MetaModel

COVARIANCES = ("diagonal", "low_rank", "full")


@keras.saving.register_keras_serializable("tfmeta")
class Bayesian(Learner):
    """Bayesian linear regression on the model's head: the posterior of a user's weights, and what it does not know.

        y = phi(item) . w + offset(item) + noise,   noise ~ N(0, sigma^2),   w ~ N(w_0(user), K_0)
        K = (K_0^-1 + Phi^T Phi / sigma^2)^-1,   mean = w_0 + K Phi^T (y - offset - Phi w_0) / sigma^2
        y* | support ~ N(phi* . mean + offset*, phi*^T K phi* + sigma^2)
        outer loss = -log p(y* | support)

    For clicks and weights the likelihood is logistic: the mean is the posterior's mode after a fixed number of Newton
    steps, the covariance Laplace's, and a prediction averages over it, `output = mean logit / sqrt(1 + pi/8 variance)`;
    the outer loss is the log loss of that output. With the inner loss `squared_error` they are regressed on as ratings
    are, and the outer loss is that of the label's unit on the mean: then outputs rank items as products of vectors.

    Source: Harrison, Sharma and Pavone, "Meta-Learning Priors for Efficient Online Bayesian Regression" (ALPaCA), WAFR
    2018, section 3, algorithms 1 and 2; the logistic output is MacKay, "The Evidence Framework Applied to
    Classification Networks", 1992, equation 10. Deviations: the prior mean is the model's user vector; w_0 and K_0 are
    learned for one output; sigma is learned; K_0 may be diagonal, diagonal plus low rank, or full. The posterior is
    kept as a factor R with `K = R^T R`, which a later support updates in turn: seeing two supports one after the other
    is seeing both.

    The fast weights are `mean [B, P]` and `factor [B, P, P]`, R.

    Args:
      model: with a linear head.
      covariance: form of K_0: `diagonal`, `low_rank` or `full`.
      rank: of the low-rank part.
      initial_scale: standard deviation of each weight under the prior at the start; positive.
      initial_noise: sigma at the start, in target units; positive. Not of a logistic likelihood.
      newton_steps: of the logistic likelihood; at least 1.
      inner_loss: `squared_error` or `binary_cross_entropy`; None takes the default of the label's unit.
      outer_loss: name of a loss on the mean prediction; None is as said above.

    Raises:
      ConfigError: if the model has no linear head, a value is out of range or the loss does not fit the label's unit.
    """

    def __init__(self, model: MetaModel, *, covariance: Literal["diagonal", "low_rank", "full"] = "diagonal",
                 rank: int = 4, initial_scale: float = 1.0, initial_noise: float = 1.0, newton_steps: int = 5,
                 inner_loss: str | None = None, outer_loss: str | None = None, name: str = "bayesian", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        require(covariance in COVARIANCES, "learner.covariance", f"one of {', '.join(COVARIANCES)}", covariance)
        require(initial_scale > 0, "learner.initial_scale", "a positive number", initial_scale)
        require(initial_noise > 0, "learner.initial_noise", "a positive number", initial_noise)
        require(isinstance(newton_steps, int) and newton_steps >= 1, "learner.newton_steps", "1 or more", newton_steps)
        self.width = head_width(model)
        require(isinstance(rank, int) and rank >= 1, "learner.rank", "1 or more", rank)
        self._config = {"covariance": covariance, "rank": rank, "initial_scale": initial_scale,
                        "initial_noise": initial_noise, "newton_steps": newton_steps, "inner_loss": inner_loss}
        self.covariance, self.newton_steps = covariance, newton_steps
        self.logistic = is_logistic(model, inner_loss)
        self._log_scale = self.add_weight(name="log_scale", shape=(self.width,),
                                          initializer=keras.initializers.Constant(math.log(initial_scale)))
        if covariance == "low_rank":
            # Not zero, where the product with its transpose would have no gradient.
            self._directions = self.add_weight(name="directions", shape=(self.width, rank),
                                               initializer=seeds.glorot(model.seed, "directions"))
        elif covariance == "full":
            self._lower = self.add_weight(name="lower", shape=(self.width * (self.width - 1) // 2,),
                                          initializer="zeros")
        if not self.logistic:
            self._log_noise = self.add_weight(name="log_noise", shape=(),
                                              initializer=keras.initializers.Constant(math.log(initial_noise)))
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        return {"mean": self.model.linear_prior(user), "factor": Shared(self.prior_factor())}

    def adapt(self, fast: Fast, support: Support) -> Fast:
        features, offset = self.model.linear(support.user, support.item)
        mean, root = fast["mean"], self._root(fast)
        output = tf.linalg.matvec(features, mean) + offset
        if self.logistic:
            rows = logistic_rows(support.target, support.length)
            whitened = in_range(_times(features, root), rows.used)
            output = _where(rows.used, output)
            z = solve_logistic_whitened(whitened, output, rows=rows, steps=self.newton_steps)
            curvature = rows.curvature(output + tf.linalg.matvec(whitened.rows, z))
            lower = lower_factor(in_range(whitened.rows * tf.sqrt(curvature)[..., None]))
            change = z * root if root.shape.rank == 2 else tf.linalg.matvec(root, z, transpose_a=True)
            found = posterior_factor(lower, root)
        else:
            used = usable_rows(support)
            per_noise = tf.reshape(1 / self.noise(), [1, 1])
            whitened = (in_range(features, used, scale=root * per_noise) if root.shape.rank == 2
                        else in_range(_times(features, root), used, scale=per_noise))
            residual = tf.math.multiply_no_nan(support.target - output, tf.cast(used, output.dtype))
            change, found = posterior(whitened, residual / self.noise(), root=root)
        return {"mean": mean + change, "factor": found}

    def linear_system(self, fast: Fast, support: Support) -> LinearSystem | None:
        if self.logistic:
            return None
        features, offset = self.model.linear(support.user, support.item)
        used, root = usable_rows(support), self._root(fast)
        residual = support.target - offset - tf.linalg.matvec(features, fast["mean"])
        return LinearSystem(prior=fast["mean"], rows=_where(used, _times(features, root) / self.noise()),
                            target=_where(used, residual) / self.noise(), whiten=lambda x: _times(x, root))

    def predict(self, fast: Fast, query: Query) -> Prediction:
        """Mean and variance of the label; for implicit feedback the averaged logit and the variance of the logit."""
        features, offset = self.model.linear(query.user, query.item)
        mean = tf.linalg.matvec(features, fast["mean"]) + offset
        variance = tf.reduce_sum(tf.square(_times(features, self._root(fast))), axis=-1)
        if self.logistic:
            return Prediction(output=mean * tf.math.rsqrt(1 + math.pi / 8 * variance), variance=variance)
        return Prediction(output=mean, variance=variance + tf.square(self.noise()))

    @property
    def has_index(self) -> bool:
        # A logistic output also falls with the variance, which is no product.
        return self.model.has_index and not self.logistic

    def index_user(self, fast: Fast, user: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.model.index_user(self.model.linear_fast(fast["mean"]), user)

    def outer_loss(self, prediction: Prediction, *, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        of_ratings = self.model.feature_spec.label.unit == "rating"
        if self._outer_loss_name is not None or not (of_ratings or self.logistic):
            return super().outer_loss(prediction, target=target, length=length)
        if self.logistic:
            return binary_cross_entropy(prediction.output, target, length)
        return gaussian_likelihood(prediction.output, prediction.variance, target, length)

    def noise(self) -> tf.Tensor:
        """Returns sigma, a scalar in target units."""
        return tf.exp(_bounded(self._log_noise))

    def prior_factor(self) -> tf.Tensor:
        """Returns R_0 `[P, P]` with `K_0 = R_0^T R_0`."""
        if self.covariance == "low_rank":
            directions = tf.convert_to_tensor(self._directions)
            covariance = tf.matmul(directions, directions, transpose_b=True)
            return tf.transpose(tf.linalg.cholesky(tf.linalg.diag(tf.square(self._scale())) + covariance))
        if self.covariance == "full":
            rows, columns = np.tril_indices(self.width, k=-1)
            upper = tf.scatter_nd(np.stack([columns, rows], 1), tf.convert_to_tensor(self._lower),
                                  [self.width, self.width])
            return tf.linalg.set_diag(upper, self._scale())
        return tf.linalg.diag(self._scale())

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}

    def _scale(self) -> tf.Tensor:
        return tf.exp(_bounded(self._log_scale))

    def _root(self, fast: Fast) -> tf.Tensor:
        """Returns R `[B, P, P]`; of a prior, which all users share, `[1, P, P]`, or its diagonal `[1, P]`."""
        factor = fast["factor"]
        if not isinstance(factor, Shared):
            return factor
        return (self._scale() if self.covariance == "diagonal" else factor.value)[None]


def _times(features: tf.Tensor, root: tf.Tensor) -> tf.Tensor:
    """Returns features `[B, N, P]` times R^T."""
    if root.shape.rank == 2:
        return features * root
    if root.shape[0] == 1:
        # One large product.
        product = tf.matmul(tf.reshape(features, [-1, root.shape[2]]), root[0], transpose_b=True)
        return tf.reshape(product, tf.shape(features))
    return tf.linalg.matmul(features, root, transpose_b=True)


def _bounded(logarithm) -> tf.Tensor:
    return tf.clip_by_value(tf.convert_to_tensor(logarithm), -LARGEST_LOG, LARGEST_LOG)


def _where(used: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Zero in rows `[B, S]` that do not count."""
    return tf.where(used if values.shape.rank == 2 else used[..., None], values, tf.zeros_like(values))
