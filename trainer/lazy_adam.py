"""Adam that updates only the rows of an embedding table that a batch has read."""

from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.python.xla import optimization_barrier

from trainer.distinct_slices import RowSums, distinct


@keras.saving.register_keras_serializable("tfmeta")
class LazyAdam(keras.optimizers.Adam):
    """Adam (Keras's own) for dense gradients; for row-sparse ones its lazy form, whose cost is that of the rows read.

    For a gradient that arrives as `tf.IndexedSlices`, let g_r be the sum of the slices of row r. At step t (from 1,
    counted for all variables together) every row r that occurs, and no other, becomes

        w_r <- w_r - lr * weight_decay * w_r                         only where weight decay is set
        m_r <- m_r + (1 - beta_1) * (g_r - m_r)
        v_r <- v_r + (1 - beta_2) * (g_r^2 - v_r)
        w_r <- w_r - lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m_r / (sqrt(v_r) + epsilon)

    Where every row occurs at every step these are the numbers of `keras.optimizers.Adam`. Where a row does not
    occur, dense Adam takes g_r = 0, lazy Adam does nothing:

    - m_r and v_r stay, instead of being multiplied by beta_1 and beta_2, so after s steps without it a row finds
      moments larger by beta_1^-s and beta_2^-s than in dense Adam;
    - w_r stays, instead of moving on along the decaying m_r;
    - w_r does not decay, so a rarely read row decays by the number of its reads, not of all steps.

    Rows are gathered, updated and scattered in place: no tensor of the table's size is made, and the variable is
    not copied. Weight decay is decoupled (Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
    ICLR 2019) for dense variables too, so this class stands for AdamW as well.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, in the form before section 2.1
    (epsilon is Keras's "epsilon hat").

    Args:
      learning_rate: a number or a `keras.optimizers.schedules.LearningRateSchedule`.
      beta_1, beta_2: decay of the moments.
      epsilon: added to the root of the second moment.
      weight_decay: decoupled decay per step relative to the learning rate; None for none. Variables named to
        `exclude_from_weight_decay` are spared.
      name: of the optimizer.
    """

    def __init__(self, learning_rate=0.001, *, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7,
                 weight_decay: float | None = None, name: str | None = None):
        super().__init__(learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon,
                         weight_decay=weight_decay, name=name)
        self._by_rows = frozenset()

    def apply(self, grads, trainable_variables=None):
        """Updates variables; a gradient is a tensor of its variable's shape, `tf.IndexedSlices` or `RowSums`."""
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        # Keras decays whole variables before it updates any; those updated by rows decay by rows.
        self._by_rows = frozenset(self._var_key(v) for g, v in zip(grads, variables, strict=True)
                                  if isinstance(g, (tf.IndexedSlices, RowSums)))
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """Updates one variable; `RowSums` only in a function that XLA compiles."""
        if isinstance(gradient, RowSums):
            values = gradient.total
        elif isinstance(gradient, tf.IndexedSlices):
            gradient = distinct(gradient)
            values = gradient.values
        else:
            super().update_step(gradient, variable, learning_rate)
            return
        values = tf.cast(values, variable.dtype)
        rate = tf.cast(learning_rate, variable.dtype)
        step = tf.cast(self.iterations + 1, variable.dtype)
        beta_1, beta_2 = (tf.constant(b, variable.dtype) for b in (self.beta_1, self.beta_2))
        alpha = rate * tf.sqrt(1 - tf.pow(beta_2, step)) / (1 - tf.pow(beta_1, step))
        index = self._get_variable_index(variable)
        tables = (self._momentums[index].value, self._velocities[index].value, variable)
        decays = self.weight_decay is not None and super()._use_weight_decay(variable)

        def moments(m, v):
            return m + (values - m) * (1 - self.beta_1), v + (tf.square(values) - v) * (1 - self.beta_2)

        def weights(weight, m, v):
            decayed = weight - weight * self.weight_decay * rate if decays else weight
            return decayed - m * alpha / (tf.sqrt(v) + self.epsilon)

        if isinstance(gradient, RowSums):
            occurs = (gradient.count > 0)[:, None]
            m, v, weight = map(tf.convert_to_tensor, tables)
            m, v = (tf.where(occurs, new, old) for new, old in zip(moments(m, v), (m, v), strict=True))
            # Else XLA computes them again for the weights, from copies of the old ones that it makes for that.
            m, v = optimization_barrier(m, v)
            for table, value in zip(tables, (m, v, tf.where(occurs, weights(weight, m, v), weight)), strict=True):
                table.assign(value)
            return
        m, v, weight = (tf.gather(t, gradient.indices) for t in tables)
        m, v = moments(m, v)
        for table, value in zip(tables, (m, v, weights(weight, m, v)), strict=True):
            table.scatter_update(tf.IndexedSlices(value, gradient.indices))

    def _use_weight_decay(self, variable) -> bool:
        return self._var_key(variable) not in self._by_rows and super()._use_weight_decay(variable)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {k: config[k] for k in ("learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay", "name")}
