"""A set transformer that reads the support and moves the user's vector."""

import math

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.errors import ConfigError
from tfmeta.learners.attention_block import AttentionBlock
from tfmeta.learners.encoded_widths import encoded_widths, one_user
from tfmeta.learners.learner import Learner
from tfmeta.learners.losses import loss_for
from tfmeta.learners.support_rows import label_columns, run_dense
from tfmeta.learners.task_tensors import Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers import seeds
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class SetEncoder(Learner):
    """Amortised adaptation: a network maps the support set to a change of the user's vector.

        e_j   = y_j - f(v_j) (ratings), [y_j > 0] - sigmoid(f(v_j)) (else),  f the model under theta
        x_j   = W [u, v_j, y_j, e_j, e_j v_j] + b
        X     <- SAB(X) = MAB(X, X), or ISAB(X) = MAB(X, MAB(I, X)) with learned inducing points I; `blocks` times
        h     = PMA(X) = MAB(s, X) with a learned seed s
        theta <- theta + n / (n + tau) (W_o h + b_o - P g),  g the gradient of the mean support loss by theta

    with theta the model's user vector and bias, at first the unadapted ones, so that an index over item vectors stays
    valid; adapted scores are the model's own under theta. The whole repeats `rounds` times with the same weights, as a
    learned optimiser would. Source: Lee et al., "Set Transformer: A Framework for Attention-based
    Permutation-Invariant Neural Networks", ICML 2019, sections 3.1 (MAB, SAB, ISAB) and 3.2 (PMA).

    Deviations: the paper has no recommender; the rows, the prior and the shrinkage are ours. A row holds, beside item
    and label, the excess e_j of the label over the expectation and e_j v_j, the direction in which the row pulls the
    user. Attention weights add up to 1 and cannot count, hence n / (n + tau) with a learned tau. A learned matrix P
    passes the gradient on beside the transformer, whose normalised rows lose its length: with W_o = 0 this is
    preconditioned gradient descent, and the transformer learns what that misses.

    Args:
      model: its fast weights are vectors of the user: two_tower with scope user_vector.
      units: width of the rows and blocks.
      heads: attention heads; divides `units`.
      blocks: SAB or ISAB blocks.
      inducing_points: rows of I; 0 takes SAB, whose cost is quadratic in the support's width.
      rounds: how often the support is read, at least 1.
      inner_learning_rate: P starts as the identity times this.
      shrinkage: tau's initial value, > 0, in interactions.
      inner_loss, outer_loss: names of losses; None takes the default of the label's unit.

    Raises:
      ConfigError: if a value is out of range, the model's fast weights are not vectors, or the loss does not fit the
        label's unit.
    """

    def __init__(self, model: MetaModel, *, units: int = 32, heads: int = 4, blocks: int = 1,
                 inducing_points: int = 0, rounds: int = 3, inner_learning_rate: float = 0.3, shrinkage: float = 5.0,
                 inner_loss: str | None = None, outer_loss: str | None = None, name: str = "set_encoder", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        for key, value, least in (("units", units, 1), ("heads", heads, 1), ("blocks", blocks, 0),
                                  ("inducing_points", inducing_points, 0), ("rounds", rounds, 1)):
            require(value >= least, f"learner.{key}", f"at least {least}", value)
        require(units % heads == 0, "learner.units", f"a multiple of learner.heads {heads}", units)
        require(inner_learning_rate > 0, "learner.inner_learning_rate", "a positive number", inner_learning_rate)
        require(shrinkage > 0, "learner.shrinkage", "a positive number of interactions", shrinkage)
        start = model.initial_fast(one_user(model))
        if not all(isinstance(w, tf.Tensor) and w.shape.rank == 2 for w in start.values()):
            raise ConfigError(f"Learner 'set_encoder' requires a model whose fast weights are vectors, such "
                              f"as two_tower with scope user_vector, received '{model.name}' with scope "
                              f"'{model.scope}'.")
        self._config = {"units": units, "heads": heads, "blocks": blocks, "inducing_points": inducing_points,
                        "rounds": rounds, "inner_learning_rate": inner_learning_rate, "shrinkage": shrinkage,
                        "inner_loss": inner_loss}
        self._rounds = rounds
        self._inner_loss = loss_for(model.feature_spec.label, part="inner", name=inner_loss)
        self._parts = {key: value.shape[-1] for key, value in start.items()}
        user, item = encoded_widths(model)
        self.item_norm = keras.layers.LayerNormalization(name=f"{name}_item_norm")
        self.item_norm.build((None, None, item))
        self.embed = FastDenseStack((units,), input_width=user + 2 * item + 2, seed=model.seed, name=f"{name}_embed")

        def block(part: str) -> AttentionBlock:
            return AttentionBlock(units, heads=heads, source_width=units, seed=model.seed, name=f"{name}_{part}")

        self.inducing, self.encoders = [], []
        for index in range(blocks):
            if inducing_points:
                points = self.add_weight(name=f"inducing_points_{index}", shape=(inducing_points, units),
                                         initializer=seeds.glorot(model.seed, f"{name}_inducing_{index}"))
                self.inducing.append((points, block(f"inducing_{index}")))
            self.encoders.append(block(f"encoder_{index}"))
        self.seed_row = self.add_weight(name="seed_row", shape=(1, units),
                                        initializer=seeds.glorot(model.seed, f"{name}_seed_row"))
        self.pooling = block("pooling")
        width = sum(self._parts.values())
        self.read_out = self.add_weight(name="read_out_kernel", shape=(units, width),
                                        initializer=seeds.normal(model.seed, f"{name}_read_out", 0.02))
        self.read_out_bias = self.add_weight(name="read_out_bias", shape=(width,), initializer="zeros")
        self.preconditioner = self.add_weight(name="preconditioner", shape=(width, width),
                                              initializer=keras.initializers.Identity(inner_learning_rate))
        self.log_shrinkage = self.add_weight(name="log_shrinkage", shape=(),
                                             initializer=keras.initializers.Constant(math.log(shrinkage)))
        self.built = True

    def adapt(self, fast: Fast, support: Support) -> Fast:
        count = tf.cast(support.length, self.variable_dtype)
        trust = (count / (count + tf.exp(tf.convert_to_tensor(self.log_shrinkage))))[:, None]
        item = tf.cast(self.item_norm(support.item), self.variable_dtype)
        for _ in range(self._rounds):
            output, gradient = self._gradient(fast, support)
            label = label_columns(support.target, output, unit=self.model.feature_spec.label.unit)
            rows = run_dense(self.embed, support.user[:, None, :], item, label, label[..., 1:] * item)
            change = self.encode(rows, support.length) - tf.linalg.matmul(
                gradient, tf.convert_to_tensor(self.preconditioner), transpose_b=True)
            parts = tf.split(trust * change, list(self._parts.values()), axis=-1)
            fast = {key: fast[key] + part for key, part in zip(self._parts, parts, strict=True)}
        return fast

    def _gradient(self, fast: Fast, support: Support) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the support's outputs `[B, S]` and the gradient of its loss by theta `[B, width of theta]`."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(fast)
            output = self.model.apply(fast, support.user, support.item)
            total = tf.reduce_sum(self._inner_loss(output, support.target, support.length))
        gradients = tape.gradient(total, fast, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return output, tf.concat([gradients[key] for key in self._parts], axis=-1)

    def encode(self, rows: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Returns W_o PMA(...) + b_o of embedded rows `[B, S, units]`: `[B, width of theta]`."""
        tasks = tf.shape(rows)[0]
        for index, block in enumerate(self.encoders):
            source, source_length = rows, length
            if self.inducing:
                points, summary = self.inducing[index]
                source, source_length = summary(_repeat(points, tasks), rows, length=length), None
            rows = block(rows, source, length=source_length)
        pooled = self.pooling(_repeat(self.seed_row, tasks), rows, length=length)[:, 0, :]
        return tf.linalg.matmul(tf.cast(pooled, self.variable_dtype),
                                tf.convert_to_tensor(self.read_out)) + tf.convert_to_tensor(self.read_out_bias)

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}


def _repeat(rows, tasks: tf.Tensor) -> tf.Tensor:
    return tf.tile(tf.convert_to_tensor(rows)[None], [tasks, 1, 1])
