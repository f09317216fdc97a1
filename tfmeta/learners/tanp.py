"""Task-adaptive neural process."""

import math
from typing import Literal, NamedTuple

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.learners.encoded_widths import encoded_widths
from tfmeta.learners.learner import Learner
from tfmeta.learners.support_rows import damped_mean, label_columns, run_dense, sum_rows
from tfmeta.learners.task_tensors import Prediction, Query, Support
from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers import seeds
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.meta_model import MetaModel

# Where the latent's log deviation starts: a wide one would drown the decoder's input in noise.
_LOG_DEVIATION, _LOG_BOUND = -2.0, 6.0


class Latent(NamedTuple):
    """A normal distribution with independent components."""

    mean: tf.Tensor  # [B, Z]
    log_deviation: tf.Tensor  # [B, Z]

    def divergence(self, other: "Latent") -> tf.Tensor:
        """Returns KL(self || other), `[B]`."""
        shift = tf.square((self.mean - other.mean) * tf.exp(-other.log_deviation))
        gap = self.log_deviation - other.log_deviation
        return 0.5 * tf.reduce_sum(tf.exp(2 * gap) + shift - 1.0 - 2 * gap, axis=-1)


@keras.saving.register_keras_serializable("tfmeta")
class TaNP(Learner):
    """A neural process whose decoder is modulated by what kind of task it sees; adaptation is one forward pass.

        encoder     r = mean_j h([u, v_j, y_j]),  r' = relu(W_s r),  q(z | S) = N(W_mu r', exp(W_sigma r')^2)
        identity    t = mean_j m([u, v_j, y_j])
        pool        c_k ~ (1 + |t - a_k|^2 / alpha)^(-(alpha + 1) / 2), sum_k c_k = 1;  o = t + sum_k c_k a_k
        FiLM        h_l = relu(gamma_l * (W_l h_{l-1} + b_l) + beta_l),  h_0 = [u, v, z],
                    gamma_l = tanh(W_gamma o), beta_l = tanh(W_beta o)
        gating      delta = sigmoid(W_delta o), eta = tanh(W_eta o);
                    gamma_l <- delta gamma_l + (1 - delta) eta,  beta_l <- delta beta_l + (1 - delta) eta
        loss        L_query(z ~ q(z | S + Q)) + KL(q(z | S + Q) || q(z | S)) / |Q| + lambda KL(D || C),
                    D_ik ~ c_ik^2 / sum_i c_ik over the tasks i of the meta-batch, held constant

    Source: Lin et al., "Task-adaptive Neural Process for User Cold-Start Recommendation", WWW 2021, sections 4.2
    (encoder), 4.3 (customisation module, FiLM and Gating-FiLM) and 4.4 (loss). The latent is its mean in scoring.

    Deviations: the decoder's output is added to the unadapted model's, and a row also carries by how much its label
    exceeds that model's expectation, e_j, and e_j v_j, so that h and m see taste rather than an item's quality; beside
    the decoder's last layer the output has a bilinear term v . B z, since a network of concatenated inputs hardly
    learns products; items and the decoder's layers are normalised; gamma starts at 1 instead of 0; means are sums
    divided by n + tau with a learned tau, so that an empty support has a place (r = t = 0) and a short one says less;
    the log deviation has an offset and a bound. The latent's noise in training comes from a stateless generator keyed
    by the share of outer steps done, since a learner is a pure function: a step that is repeated draws the same noise.
    `support_share` s mixes the query loss under z ~ q(z | S + Q) with that under z ~ q(z | S), weights 1 - s and s: 0
    is the paper's bound, 1 the direct likelihood, which does not suffer from the gap between the two distributions
    (Foong et al., "Meta-Learning Stationary Stochastic Process Prediction with Convolutional Neural Processes",
    NeurIPS 2020, section 4.2).

    Args:
      model: gives encoded users and items and the unadapted output; its scope decides what these are.
      units: width of the encoders' hidden layer, r and t.
      latent_dim: Z, width of z.
      decoder_units: widths of the decoder's modulated layers.
      clusters: rows of the global pool.
      alpha: degrees of freedom of the soft assignment.
      modulation: `film` or `gating`.
      kl_weight, cluster_weight: of the two divergences.
      support_share: s in [0, 1].
      shrinkage: tau's initial value, > 0, in interactions.
      sample: draw the latent in training; False takes its mean there, too.
      outer_loss: name of a loss; None takes the default of the label's unit.

    Raises:
      ConfigError: if a value is out of range or the loss does not fit the label's unit.
    """

    def __init__(self, model: MetaModel, *, units: int = 64, latent_dim: int = 32,
                 decoder_units: tuple[int, ...] = (64, 32), clusters: int = 8, alpha: float = 1.0,
                 modulation: Literal["film", "gating"] = "gating", kl_weight: float = 1.0,
                 cluster_weight: float = 0.05, support_share: float = 0.5, shrinkage: float = 2.0,
                 sample: bool = True, outer_loss: str | None = None, name: str = "tanp", **kwargs):
        super().__init__(model, name=name, outer_loss=outer_loss, **kwargs)
        for key, value in (("units", units), ("latent_dim", latent_dim), ("clusters", clusters)):
            require(value >= 1, f"learner.{key}", "at least 1", value)
        require(decoder_units and min(decoder_units) >= 1, "learner.decoder_units", "one or more positive widths",
                list(decoder_units))
        for key, value in (("alpha", alpha), ("shrinkage", shrinkage)):
            require(value > 0, f"learner.{key}", "a positive number", value)
        for key, value in (("kl_weight", kl_weight), ("cluster_weight", cluster_weight)):
            require(value >= 0, f"learner.{key}", "0 or more", value)
        require(modulation in ("film", "gating"), "learner.modulation", "'film' or 'gating'", modulation)
        require(0 <= support_share <= 1, "learner.support_share", "0 to 1", support_share)
        self._config = {"units": units, "latent_dim": latent_dim, "decoder_units": list(decoder_units),
                        "clusters": clusters, "alpha": alpha, "modulation": modulation, "kl_weight": kl_weight,
                        "cluster_weight": cluster_weight, "support_share": support_share, "shrinkage": shrinkage,
                        "sample": sample}
        self._alpha, self._gated, self._sample = alpha, modulation == "gating", sample
        self._kl_weight, self._cluster_weight, self._support_share = kl_weight, cluster_weight, support_share
        self._latent_dim, self._widths = latent_dim, tuple(decoder_units)
        user, item = encoded_widths(model)

        def dense(part, widths, width):
            return FastDenseStack(widths, input_width=width, seed=model.seed, name=f"{name}_{part}")

        self.item_norm = keras.layers.LayerNormalization(name=f"{name}_item_norm")
        self.item_norm.build((None, None, item))
        self.encoder = dense("encoder", (units, units), user + 2 * item + 2)
        self.identity = dense("identity", (units, units), user + 2 * item + 2)
        self.latent_hidden = dense("latent_hidden", (units,), units)
        self.latent_mean = dense("latent_mean", (latent_dim,), units)
        self.latent_deviation = dense("latent_deviation", (latent_dim,), units)
        self.pool = self.add_weight(name="pool", shape=(clusters, units),
                                    initializer=seeds.glorot(model.seed, f"{name}_pool"))
        self.film = dense("film", ((4 if self._gated else 2) * sum(decoder_units),), units)
        self.decoder, self.norms, width = [], [], user + item + latent_dim
        for index, layer in enumerate(decoder_units):
            self.decoder.append(dense(f"decoder_{index}", (layer,), width))
            self.norms.append(keras.layers.LayerNormalization(name=f"{name}_decoder_norm_{index}"))
            self.norms[-1].build((None, None, layer))
            width = layer
        self.read_out = self.add_weight(name="read_out", shape=(width,),
                                        initializer=seeds.normal(model.seed, f"{name}_read_out", 0.02))
        self.bilinear = self.add_weight(name="bilinear", shape=(latent_dim, item),
                                        initializer=seeds.normal(model.seed, f"{name}_bilinear", 0.02))
        self.log_shrinkage = self.add_weight(name="log_shrinkage", shape=(2,),
                                             initializer=keras.initializers.Constant(math.log(shrinkage)))
        self.built = True

    def init(self, user: tf.Tensor) -> Fast:
        nothing = tf.zeros([tf.shape(user)[0], self.pool.shape[1]], self.variable_dtype)
        return self._fast(self.latent(nothing).mean, task=nothing)

    def adapt(self, fast: Fast, support: Support) -> Fast:
        del fast  # What it says of the user, the support's encoded user says too.
        rows = self._rows(support.user, support.item, support.target)
        latent = self.latent(self._mean(0, sum_rows(self.encoder, *rows, length=support.length), support.length))
        return self._fast(latent.mean, task=self._task(rows, support.length))

    def predict(self, fast: Fast, query: Query) -> Prediction:
        scales = tf.split(fast["film_scale"], self._widths, axis=-1)
        shifts = tf.split(fast["film_shift"], self._widths, axis=-1)
        parts = (query.user[:, None, :], fast["latent"][:, None, :], self._item(query.item))
        for layer, norm, scale, shift in zip(self.decoder, self.norms, scales, shifts, strict=True):
            hidden = self._norm(norm, run_dense(layer, *parts))
            parts = (tf.nn.relu(scale[:, None, :] * hidden + shift[:, None, :]),)
        output = tf.linalg.matvec(parts[0], tf.convert_to_tensor(self.read_out))
        taste = tf.linalg.matmul(fast["latent"], tf.convert_to_tensor(self.bilinear))
        output += tf.linalg.matvec(self._item(query.item), taste)
        return Prediction(output=self._base(query.user, query.item) + output)

    def task_loss(self, support, query, *, target, length, progress):
        mask = tf.sequence_mask(length, tf.shape(target)[1])
        clean = tf.where(mask, target, tf.zeros_like(target))
        item = tf.where(mask[..., None], query.item, tf.zeros_like(query.item))
        rows = self._rows(support.user, support.item, support.target)
        total = sum_rows(self.encoder, *rows, length=support.length)
        prior = self.latent(self._mean(0, total, support.length))
        total += sum_rows(self.encoder, *self._rows(query.user, item, clean), length=length)
        posterior = self.latent(self._mean(0, total, support.length + length))
        task = self._task(rows, support.length)

        loss = 0.0
        for share, latent, stream in ((1 - self._support_share, posterior, 0), (self._support_share, prior, 1)):
            if share:
                fast = self._fast(self._draw(latent, progress, stream), task=task)
                loss += share * self.query_loss(fast, query, target=target, length=length)
        count = tf.cast(tf.maximum(length, 1), self.variable_dtype)
        loss += self._kl_weight * posterior.divergence(prior) / count
        return loss + self._cluster_weight * clustering_loss(self.assignment(task))

    def latent(self, mean: tf.Tensor) -> Latent:
        """Returns q(z) for the mean representation r, `[B, units]`."""
        hidden = tf.nn.relu(run_dense(self.latent_hidden, mean[:, None, :]))
        log_deviation = _LOG_DEVIATION + run_dense(self.latent_deviation, hidden)[:, 0, :]
        return Latent(mean=run_dense(self.latent_mean, hidden)[:, 0, :],
                      log_deviation=tf.clip_by_value(log_deviation, -_LOG_BOUND, _LOG_BOUND))

    def assignment(self, task: tf.Tensor) -> tf.Tensor:
        """Returns how far each task identity t `[B, units]` belongs to each cluster: `[B, clusters]`, rows sum to 1."""
        distance = tf.reduce_sum(tf.square(task[:, None, :] - tf.convert_to_tensor(self.pool)), axis=-1)
        return tf.nn.softmax(-0.5 * (self._alpha + 1) * tf.math.log1p(distance / self._alpha))

    def modulation(self, task: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (gamma - 1, beta) of all decoder layers side by side, `[B, sum of widths]` each."""
        identity = task + tf.linalg.matmul(self.assignment(task), tf.convert_to_tensor(self.pool))
        parts = tf.split(run_dense(self.film, identity[:, None, :])[:, 0, :], 4 if self._gated else 2, axis=-1)
        scale, shift = tf.tanh(parts[0]), tf.tanh(parts[1])
        if self._gated:
            gate, common = tf.sigmoid(parts[2]), tf.tanh(parts[3])
            scale, shift = (gate * p + (1 - gate) * common for p in (scale, shift))
        return scale, shift

    def get_config(self) -> dict:
        return {**super().get_config(), **self._config}

    def _fast(self, latent: tf.Tensor, *, task: tf.Tensor) -> Fast:
        scale, shift = self.modulation(task)
        return {"latent": latent, "film_scale": 1.0 + scale, "film_shift": shift}

    def _task(self, rows, length) -> tf.Tensor:
        return self._mean(1, sum_rows(self.identity, *rows, length=length), length)

    def _mean(self, which: int, total: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        return damped_mean(total, tf.cast(length, total.dtype),
                           tf.exp(tf.convert_to_tensor(self.log_shrinkage))[which])

    def _rows(self, user, item, target) -> tuple[tf.Tensor, ...]:
        label = label_columns(target, self._base(user, item), unit=self.model.feature_spec.label.unit)
        item = self._item(item)
        return user[:, None, :], item, label, label[..., 1:] * item

    def _base(self, user, item) -> tf.Tensor:
        return self.model.apply(self.model.initial_fast(user), user, item)

    def _item(self, item) -> tf.Tensor:
        return self._norm(self.item_norm, item)

    def _norm(self, norm, value) -> tf.Tensor:
        # A side without features has no width, and nothing to normalise.
        return tf.cast(norm(value), self.variable_dtype) if value.shape[-1] else value

    def _draw(self, latent: Latent, progress: tf.Tensor, stream: int) -> tf.Tensor:
        if not self._sample:
            return latent.mean
        key = tf.bitcast(tf.cast(progress, tf.float32), tf.int32)
        seed = tf.stack([key, tf.constant(2 * (self.model.seed % 2**30) + stream, tf.int32)])
        noise = tf.random.stateless_normal(tf.shape(latent.mean), seed, dtype=latent.mean.dtype, alg="philox")
        return latent.mean + noise * tf.exp(latent.log_deviation)


def clustering_loss(assignment: tf.Tensor) -> tf.Tensor:
    """Returns KL(D || C) of each task `[B]`, which sharpens assignments C `[B, clusters]` and balances clusters.

    D_ik ~ c_ik^2 / f_k with f_k = sum_i c_ik, rows normalised, held constant. Source: as `TaNP`, section 4.4, after
    Xie, Girshick and Farhadi, "Unsupervised Deep Embedding for Clustering Analysis", ICML 2016, section 3.1.3.
    """
    sharp = tf.square(assignment) / tf.reduce_sum(assignment, axis=0, keepdims=True)
    goal = tf.stop_gradient(sharp / tf.reduce_sum(sharp, axis=-1, keepdims=True))
    tiny = 1e-12
    return tf.reduce_sum(goal * (tf.math.log(goal + tiny) - tf.math.log(assignment + tiny)), axis=-1)
