"""Ridge head with a prior that reads the support, rows of unequal noise, and an ordinal output."""

from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from tfmeta.config import require
from tfmeta.errors import ConfigError
from tfmeta.learners.linear_solve import solve_ridge, whitening_scale
from tfmeta.learners.linear_system import LinearSystem
from tfmeta.learners.ridge import Ridge, usable_rows
from tfmeta.learners.scale_rows import scale_rows
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers import seeds
from tfmeta.models.meta_model import MetaModel

# Interactions' worth of shrinkage of the support's statistics towards nothing.
_SHRINKAGE = 3.0
# Smallest step between cut points, in target units.
_LEAST_STEP = 1e-3


@keras.saving.register_keras_serializable("tfmeta")
class OrdinalRidge(Ridge):
    """Predicts the distribution over rating levels; the user's weights are solved in closed form.

        w_0 = prior(user) + g(statistics of the support),   g(0) = 0
        d   = argmin_d sum_i s_i (y_i - offset_i - phi_i . (w_0 + d))^2 + sum_j lambda_j d_j^2
        f   = phi . (w_0 + d) + offset,   P(y <= level_k) = sigmoid(slope * (cut_k - f))

    Three things are added to `Ridge`. (1) The prior sees how many interactions there are, how far and how evenly the
    labels lie from what the prior expected, and which items they are of: people choose what they like, so that the
    items themselves are evidence (SVD++: Koren, "Factorization meets the neighborhood", KDD 2008, equation 15). g is a
    network without biases over statistics that vanish for an empty support, so an empty support is the unadapted
    model. (2) Each row has a weight s_i = exp(tanh(.)) of its item: some items' ratings say less of a person's taste.
    (3) The output is cumulative-logit (McCullagh, "Regression Models for Ordinal Data", JRSS B 1980, section 2),
    trained by its log likelihood, because levels are not equally far apart; the score is the mean over levels, and the
    posterior median is delivered beside it.

    Sources: of the solve Bertinetto et al., "Meta-learning with Differentiable Closed-Form Solvers", ICLR 2019, section
    3.2, as in `Ridge`; of (1) and (3) those named above. Deviations: those of `Ridge`; from SVD++, which learns one
    vector per item for this alone, g reads the sum of the features that the solve has anyway; the solve minimises
    squared error around the linear score f although the output is ordinal, since that is what has a closed form.

    Args:
      model: with a linear head.
      step: distance between adjacent levels, in the label's unit; levels are minimum, minimum + step, ..., maximum.
      context_units: hidden units of g; 0 for no such term.
      row_noise: learn the rows' weights s_i; otherwise they are 1.
      initial_regularisation, regularisation: as in `Ridge`.
      outer_loss: name of a loss of the score instead of the log likelihood; None for the likelihood.

    Attributes:
      levels: the rating levels in target units, numpy `[K]`.

    Raises:
      ConfigError: if the labels are not ratings, the step does not divide their range, the model has no linear head
        or a value is out of range.
    """

    has_median = True

    def __init__(self, model: MetaModel, *, step: float = 1.0, context_units: int = 32, row_noise: bool = True,
                 initial_regularisation: float = 5.0,
                 regularisation: Literal["per_dimension", "shared"] = "per_dimension",
                 outer_loss: str | None = None, name: str = "ordinal_ridge", **kwargs):
        label = model.feature_spec.label
        if label.unit != "rating":
            raise ConfigError(f"Learner '{name}' requires labels of unit rating, received '{label.unit}'. Use ridge.")
        super().__init__(model, initial_regularisation=initial_regularisation, regularisation=regularisation,
                         outer_loss=outer_loss, name=name, **kwargs)
        require(step > 0, "learner.step", "a positive number", step)
        count = (label.maximum - label.minimum) / step
        require(1 <= round(count) <= 100 and abs(count - round(count)) < 1e-6, "learner.step",
                f"a divisor of the label's range {label.minimum} to {label.maximum} into at most 100 steps", step)
        require(context_units >= 0, "learner.context_units", "0 or more", context_units)
        self._own_config = {"step": step, "context_units": context_units, "row_noise": row_noise}
        self.levels = (label.minimum + step * np.arange(round(count) + 1) - label.mean) / label.std
        cuts = (self.levels[1:] + self.levels[:-1]) / 2
        self._first_cut = self.add_weight(name="first_cut", shape=(),
                                          initializer=keras.initializers.Constant(cuts[0]))
        gap = max(step / label.std - _LEAST_STEP, _LEAST_STEP)
        # The inverse of softplus.
        self._cut_steps = self.add_weight(name="cut_steps", shape=(len(cuts) - 1,),
                                          initializer=keras.initializers.Constant(gap + np.log(-np.expm1(-gap))))
        self._log_slope = self.add_weight(name="log_slope", shape=(),
                                          initializer=keras.initializers.Constant(np.log(2.0)))
        self._hidden = self._context = self._noise = None
        if context_units:
            self._hidden = self.add_weight(name="context_hidden", shape=(self.width + 2, context_units),
                                           initializer=seeds.glorot(model.seed, "context_hidden"))
            self._context = self.add_weight(name="context_output", shape=(context_units, self.width),
                                            initializer=seeds.normal(model.seed, "context_output", 0.02))
        if row_noise:
            self._noise = self.add_weight(name="row_noise", shape=(self.width,), initializer="zeros")

    def adapt(self, fast: Fast, support: Support) -> Fast:
        features, residual, used = self._rows(fast, support)
        weights = fast["weights"]
        if self._hidden is not None:
            change = self._context_change(*_sums(features, residual, used))
            weights = weights + change
            residual -= tf.where(used, tf.linalg.matvec(features, change), tf.zeros_like(residual))
        return {"weights": weights + solve_ridge(features, residual, row_weight=self._row_weight(features, used),
                                                 precision=self.precision())}

    def linear_system(self, fast: Fast, support: Support) -> LinearSystem:
        features, residual, used = self._rows(fast, support)
        scale, rows = whitening_scale(self.precision())[:, None, :], features
        target = residual
        if self._noise is not None:
            root = tf.sqrt(self._row_weight(features, used))
            rows, target = rows * root[..., None], target * root
        system = LinearSystem(prior=fast["weights"], rows=rows * scale, target=target, whiten=lambda x: x * scale)
        if self._hidden is None:
            return system
        # The statistics are functions of sums: without a row they are those of what is left of the sums.
        *numbers, items = _terms(features, residual, used)
        *totals, all_items = sums = _sums(features, residual, used)
        without = [*((total - term)[..., None] for total, term in zip(totals, numbers, strict=True)),
                   all_items[:, None, :] - items]
        return system._replace(shift=self._context_change(*sums) / scale[:, 0, :],
                               shift_without=self._context_change(*without) / scale)

    def _rows(self, fast: Fast, support: Support) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns features `[B, S, P]` and residuals under the prior `[B, S]`, 0 in rows that are not used `[B, S]`."""
        features, offset = self.model.linear(support.user, support.item)
        used = usable_rows(support)
        features = scale_rows(features, tf.cast(used, features.dtype))
        residual = support.target - offset - tf.linalg.matvec(features, fast["weights"])
        return features, tf.where(used, residual, tf.zeros_like(offset)), used

    def _row_weight(self, features: tf.Tensor, used: tf.Tensor) -> tf.Tensor | None:
        """Returns s_i `[B, S]`, 0 in rows that are not used; None where all are 1."""
        if self._noise is None:
            return None
        weight = tf.exp(tf.tanh(tf.linalg.matvec(features, self._noise)))
        return tf.where(used, weight, tf.zeros_like(weight))

    def from_output(self, output: tf.Tensor) -> tf.Tensor:
        return self._prediction(output).output

    def predict(self, fast: Fast, query: Query) -> Prediction:
        return self._prediction(self.model.linear_output(fast["weights"], query.user, query.item))

    def _prediction(self, output: tf.Tensor) -> Prediction:
        logits, gaps = self._cumulative(output)
        log_levels = _log_levels(logits, gaps)
        probability = tf.exp(log_levels)
        levels = tf.constant(self.levels, probability.dtype)
        # Probabilities add up to 1 but for rounding; the score is to lie within the scale.
        mean = tf.reduce_sum(probability * levels, axis=-1) / tf.reduce_sum(probability, axis=-1)
        below = tf.reduce_sum(tf.cast(logits < 0.0, tf.int32), axis=-1)
        return Prediction(output=mean, median=tf.gather(levels, below), log_levels=log_levels)

    def outer_loss(self, prediction: Prediction, *, target: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Returns minus the mean log likelihood `[B]` of the level nearest to each label."""
        if self._outer_loss_name is not None:
            return super().outer_loss(prediction, target=target, length=length)
        used = tf.sequence_mask(length, tf.shape(target)[1])
        target = tf.where(used, target, tf.zeros_like(target))
        nearest = tf.argmin(tf.abs(target[..., None] - tf.constant(self.levels, target.dtype)), axis=-1)
        # Whatever padding holds is replaced before any arithmetic, so that no gradient passes through it.
        log_levels = tf.where(used[..., None], prediction.log_levels, tf.zeros_like(prediction.log_levels))
        chosen = tf.one_hot(nearest, len(self.levels), dtype=target.dtype) * log_levels
        return tf.math.divide_no_nan(-tf.reduce_sum(chosen, axis=[1, 2]), tf.cast(length, chosen.dtype))

    def _context_change(self, count: tf.Tensor, residual: tf.Tensor, square: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Returns g of the support's statistics: `[..., P]`, zero for an empty support; arguments as `_sums` has."""
        mean = residual / (count + _SHRINKAGE)
        spread = square / (count + _SHRINKAGE)
        # The last feature is the constant 1, whose sum says how many there are.
        statistics = tf.concat([mean, spread, items / tf.sqrt(count + 1.0)], axis=-1)
        return tf.linalg.matmul(tf.nn.relu(tf.linalg.matmul(statistics, self._hidden)), self._context)

    def _cumulative(self, output: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits of P(y <= level_k), k = 1 to K - 1, `[B, Q, K - 1]`, and what each exceeds the last by.

        The latter, `[K - 2]`, are positive; as differences of the logits they would be lost in rounding far from 0.
        """
        steps = _LEAST_STEP + tf.nn.softplus(tf.convert_to_tensor(self._cut_steps))
        first = tf.convert_to_tensor(self._first_cut)
        cuts = first + tf.concat([tf.zeros_like(first)[None], tf.cumsum(steps)], axis=0)
        slope = tf.exp(tf.clip_by_value(tf.convert_to_tensor(self._log_slope), -10.0, 10.0))
        return slope * (cuts - output[..., None]), slope * steps

    def get_config(self) -> dict:
        config = {**super().get_config(), **self._own_config}
        # The inner problem is least squares here.
        return {key: value for key, value in config.items() if key not in ("newton_steps", "inner_loss")}


def _terms(features: tf.Tensor, residual: tf.Tensor, used: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns what each row adds to the support's sums: 1, residual and its square, `[B, S]` each, and the features."""
    # Labels of any size come; statistics of those that mean something stay within a few deviations.
    residual = tf.clip_by_value(residual, -10.0, 10.0)
    return tf.cast(used, residual.dtype), residual, tf.square(residual), features


def _sums(features: tf.Tensor, residual: tf.Tensor, used: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the sums of `_terms`: `[B, 1]` each, and `[B, P]`."""
    *numbers, items = _terms(features, residual, used)
    return *(tf.reduce_sum(term, axis=1, keepdims=True) for term in numbers), tf.reduce_sum(items, axis=1)


def _log_levels(logits: tf.Tensor, gaps: tf.Tensor) -> tf.Tensor:
    """Returns the log probability of each level `[B, Q, K]`; arguments as `_cumulative` returns them.

    With logits a < b: log(sigmoid(b) - sigmoid(a)) = log sigmoid(b) + log sigmoid(-a) + log(1 - e^(a-b)).
    """
    below, above = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
    between = below[..., 1:] + above[..., :-1] + tf.math.log(-tf.math.expm1(-gaps))
    return tf.concat([below[..., :1], between, above[..., -1:]], axis=-1)
