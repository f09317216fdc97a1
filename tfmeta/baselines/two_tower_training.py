"""The training loop of the two-tower baseline; needs TensorFlow and TensorFlow Recommenders."""

import keras
import numpy as np
import tensorflow as tf

from tfmeta.baselines.tfrs_bridge import import_tfrs
from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_batch import IndexedTaskBatch
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.models.item_id_embedding import ItemIdEmbedding
from tfmeta.models.layers import seeds
from tfmeta.models.two_tower import TwoTower

# Passes of implicit feedback per epoch: each takes one item of a user.
_IMPLICIT_PASSES = 4
_ITEMS = 8192
# Keeps these draws apart from the sampler's.
_STREAM = 1009


def train_two_tower(config, prepared: PreparedData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trains the towers.

    Args:
      config: a `TwoTowerTFRS`.
      prepared: training interactions and features.

    Returns:
      float64 tables of `D + 2` columns, made so that `score = (user + history) . item` in target units: users
      `[U, D + 2]`, items `[I + 1, D + 2]`, and what a support item adds to a user `[I + 1, D + 2]`.
    """
    towers = _Towers(config, prepared)
    sampler = _sampler(config, prepared)
    passes = 1 if config.label.unit == "rating" else _IMPLICIT_PASSES
    steps = max(1, config.epochs * passes * sampler.steps_per_epoch)
    optimizer = keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(config.learning_rate, steps),
                                       weight_decay=config.weight_decay, clipnorm=None, global_clipnorm=5.0)
    optimizer.build(towers.variables)

    def step(batch: IndexedTaskBatch) -> None:
        with tf.GradientTape() as tape:
            loss = towers.loss(batch, tf.cast(optimizer.iterations.value, tf.int32))
        gradients = tape.gradient(loss, [v.value for v in towers.variables],
                                  unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply([tf.convert_to_tensor(g) for g in gradients], towers.variables)

    spec = tf.nest.map_structure(lambda t: tf.TensorSpec([None] * t.shape.rank, t.dtype),
                                 sampler.batch(epoch=0, batch=0))
    run = tf.function(step, input_signature=[spec])
    for batch in sampler.dataset(stop_step=steps):
        run(batch)
    return towers.tables()


def _sampler(config, prepared: PreparedData) -> TaskSampler:
    _, offsets = prepared.train.user_offsets()
    # A third of a typical user's interactions at most, so that supports are left.
    query = int(np.clip(np.median(np.diff(offsets)) // 3, 1, config.query_size))
    sizes = TaskSamplerConfig(
        query_size=query, min_interactions=query + 1, max_interactions=query + max(config.support, 1),
        support_size=(0, config.support), meta_batch_size=max(1, config.batch_rows // query), task_weighting="sqrt")
    return TaskSampler(prepared.train, config=sizes, label=config.label, seed=config.seed)


class _Towers:
    """Both towers and their losses."""

    def __init__(self, config, prepared: PreparedData):
        self._config, self._label = config, config.label
        spec, width = prepared.feature_spec, config.vector_dim + 1
        self._id_name = spec.item_id.name
        self._tables = FeatureTables.from_prepared(prepared)
        self._model = TwoTower(spec, scope="user_vector", seed=config.seed, embedding_dim=config.embedding_dim,
                               vector_dim=config.vector_dim, user_units=(config.units,), item_units=(config.units,))
        self._history = keras.layers.Dense(width, name="history",
                                           kernel_initializer=seeds.glorot(config.seed, "history"))
        self._history.build((None, width))
        self._history_ids = ItemIdEmbedding(spec.item_id, width=width, seed=config.seed + 1)
        self.variables = [*self._model.trainable_variables, *self._history.trainable_variables,
                          *self._history_ids.trainable_variables]
        self._item_mean = tf.constant(config.item_mean)
        count = np.bincount(prepared.train.item_row, minlength=self._tables.num_items + 1)
        self._share = tf.constant(np.maximum(count, 1) / max(len(prepared.train), 1), tf.float32)
        tfrs = import_tfrs()
        # Keras 2 decides within a graph how it runs, so the tasks are graphs of their own.
        self._ranking = tf.function(tfrs.tasks.Ranking(loss=_squared_error))
        self._retrieval = tf.function(tfrs.tasks.Retrieval(loss=_softmax_loss, remove_accidental_hits=True))

    def loss(self, batch: IndexedTaskBatch, step: tf.Tensor) -> tf.Tensor:
        """Returns the mean loss of a batch, scalar."""
        sides = (batch.support_row, batch.query_row)
        rows = [tf.where(side < 0, self._tables.num_items, side) for side in sides]
        distinct, index = tf.unique(tf.concat([tf.reshape(r, [-1]) for r in rows], axis=0))
        draw = tf.random.stateless_uniform(tf.shape(distinct), [self._config.seed + _STREAM, step], alg="philox")
        item, history = self._encode(distinct, hidden=draw < self._config.item_id_dropout)
        in_support, in_query = (tf.reshape(part, tf.shape(r)) for part, r in zip(
            tf.split(index, [tf.size(r) for r in rows]), rows, strict=True))
        mask = tf.sequence_mask(batch.support_length, tf.shape(rows[0])[1])
        weight = batch.support_label
        if self._label.unit == "rating":
            weight = (weight - tf.gather(self._item_mean, rows[0])) / self._label.std
        weight = tf.where(mask, weight, 0.0)
        total = tf.reduce_sum(weight[..., None] * tf.gather(history, in_support), axis=1)
        count = tf.cast(batch.support_length, total.dtype)[:, None]
        draw = tf.random.stateless_uniform(tf.shape(batch.user_row), [self._config.seed + _STREAM + 1, step],
                                           alg="philox")
        user = self._encode_user(batch.user_row, hidden=draw < self._config.user_dropout)
        user += tf.math.divide_no_nan(total, count + self._config.damping)
        user = tf.repeat(_with_one(user), tf.shape(rows[1])[1], axis=0)
        item = _for_user(tf.gather(item, tf.reshape(in_query, [-1])))
        label = tf.reshape(batch.query_label, [-1])
        rows = tf.reshape(rows[1], [-1])
        task = tf.repeat(tf.range(tf.shape(batch.query_row)[0]), tf.shape(batch.query_row)[1])
        if self._label.unit != "rating":
            return self._retrieve(user, item, rows, task, tf.cast(label > 0, tf.float32))
        output = tf.reduce_sum(user * item, axis=1) + self._offset
        target = (label - self._label.mean) / self._label.std
        loss = self._ranking(target[:, None], output[:, None], compute_metrics=False)
        if self._config.retrieval_weight:
            relevant = tf.cast(label >= self._label.threshold, tf.float32)
            loss += self._config.retrieval_weight * self._retrieve(user, item, rows, task, relevant)
        return loss

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the users' and items' vectors and what a support item adds to a user's."""
        users = np.arange(self._tables.num_users, dtype=np.int32)
        user = np.concatenate([self._encode_user(tf.constant(r), hidden=tf.zeros(len(r), tf.bool)).numpy()
                               for r in np.split(users, range(_ITEMS, len(users), _ITEMS))])
        items = np.arange(self._tables.num_items + 1, dtype=np.int32)
        item, history = (np.concatenate(parts) for parts in zip(*(
            [t.numpy() for t in self._encode(tf.constant(r), hidden=tf.zeros(len(r), tf.bool))]
            for r in np.split(items, range(_ITEMS, len(items), _ITEMS))), strict=True))
        user, item = np.pad(user, ((0, 0), (0, 1)), constant_values=1.0), _for_user(item).numpy()
        item[:, -1] += self._offset.numpy()
        return tuple(t.astype(np.float64) for t in (user, item, np.pad(history, ((0, 0), (0, 1)))))

    @property
    def _offset(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._model.offset)

    def _encode_user(self, rows: tf.Tensor, *, hidden: tf.Tensor) -> tf.Tensor:
        """Returns `[B, D + 1]`; transformed features are 0 where they are missing."""
        features = {name: tf.where(tf.reshape(hidden, [-1] + [1] * (value.shape.rank - 1)), tf.zeros_like(value), value)
                    for name, value in self._tables.user(rows).items()}
        return self._model.encode_user(features, tasks=tf.size(rows))

    def _encode(self, rows: tf.Tensor, *, hidden: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns item vectors with their bias and history vectors, both `[N, D + 1]`."""
        features = self._tables.item(rows)
        features[self._id_name] = tf.where(hidden, 0, features[self._id_name])
        item = self._model.encode_item(features)
        return item, self._history(item) + self._history_ids(features[self._id_name])

    def _retrieve(self, user, item, rows, task, weight) -> tf.Tensor:
        # A user's other items are not what it should be kept from.
        allowed = (task[:, None] != task[None, :]) | tf.eye(tf.size(task), dtype=tf.bool)
        total = self._retrieval(user, item, sample_weight=weight, candidate_ids=rows, score_mask=allowed,
                                candidate_sampling_probability=tf.gather(self._share, rows), compute_metrics=False,
                                compute_batch_metrics=False)
        return total / tf.maximum(tf.reduce_sum(weight), 1.0)


def _with_one(user: tf.Tensor) -> tf.Tensor:
    """`[u, c_u]` -> `[u, c_u, 1]`, to meet `[v, 1, c_v]`."""
    return tf.concat([user, tf.ones_like(user[:, :1])], axis=1)


def _for_user(item: tf.Tensor) -> tf.Tensor:
    """`[v, c_v]` -> `[v, 1, c_v]`."""
    return tf.concat([item[:, :-1], tf.ones_like(item[:, :1]), item[:, -1:]], axis=1)


def _squared_error(*, y_true, y_pred, sample_weight=None):
    return tf.reduce_mean(tf.math.squared_difference(y_true, y_pred))


def _softmax_loss(*, y_true, y_pred, sample_weight):
    return tf.reduce_sum(sample_weight * tf.nn.softmax_cross_entropy_with_logits(labels=y_true, logits=y_pred))
