"""One step of the outer loop, as a graph."""

import numpy as np
import tensorflow as tf

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.task_batch import IndexedTaskBatch, TaskBatch
from tfmeta.errors import ConfigError
from tfmeta.learners.task_tensors import Catalogue
from tfmeta.models.recommender import Recommender
from trainer.distinct_slices import RowSums, clip_by_norm, distinct, global_norm, sum_rows
from trainer.item_id_dropout import dropout_rates, item_id_dropout, task_keys
from trainer.lazy_adam import LazyAdam
from trainer.optimizer import updates_by_rows


class OuterStep:
    """Gathers features, adapts, differentiates and updates; one compiled function.

    The mean loss over the batch's actual tasks plus the model's regularisation is minimised. Gradients of embedding
    tables stay sparse where the optimizer takes them so: then no work grows with the tables. A step whose loss
    or gradient norm is not finite changes nothing, and neither does any step after it: `failed_step` holds its
    number, so that the caller may look at it seldom without the weights being lost.

    Where the learner's loss is over the catalogue, all items of the vocabulary are encoded in every step, and an item's
    id is hidden in all tasks of the step or in none, so that an item has one representation. Items that no training
    interaction has are left out: they could only be taught to score low.

    Args:
      recommender: whose trainable variables are updated.
      optimizer: a built Keras optimizer over them.
      tables: features by row.
      clip_norm: bound of the global gradient norm, or None.
      dropout: probability of hiding an item's id.
      seed: of the dropout.
      dropout_spread: share of tasks in which that probability is drawn from [0, 1] instead.
      total_steps: outer steps of the whole run, for learners that anneal.
      trained_items: which item rows `[I]`, bool, have training interactions, up to the last that does; None for all of
        the vocabulary.
      support_width: pads supports to that many rows and compiles adaptation and query loss with XLA, once for each
        number of tasks: faster for small meta-batches, slower to start. Where the model's shapes are static, encoding
        and gradients are compiled too, and with `LazyAdam` on processors the whole step. None makes one plain graph
        for all shapes.

    Attributes:
      step: outer steps done, int64 scalar variable.
      loss_sum, tasks: since the epoch's start: sum of the task losses (float64) and number of tasks (int64).
      failed_step: number of the step that failed, -1 while none has; int64 scalar variable.
      failed_loss, failed_norm: its loss and gradient norm, float32.

    Raises:
      ConfigError: if the loss is over the catalogue and no item is of the vocabulary.
    """

    def __init__(self, recommender: Recommender, *, optimizer, tables: FeatureTables, clip_norm: float | None,
                 dropout: float, seed: int, dropout_spread: float = 0.0, total_steps: int = 1,
                 support_width: int | None = None, trained_items: np.ndarray | None = None):
        self._recommender, self._optimizer, self._tables = recommender, optimizer, tables
        self._clip_norm, self._dropout, self._seed = clip_norm, dropout, seed
        self._dropout_spread = dropout_spread
        self._total_steps = total_steps
        self._by_rows = updates_by_rows(optimizer)
        self._id_name = recommender.feature_spec.item_id.name
        self._catalogue = self._known_items(trained_items) if recommender.learner.over_catalogue else None
        if self._catalogue is not None:
            # Row of an item -> its place in the catalogue, -1 for none; the last row is padding's.
            self._places = np.full(tables.num_items + 1, -1, np.int32)
            self._places[self._catalogue] = np.arange(len(self._catalogue))
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="loss_sum")
        self.tasks = tf.Variable(0, dtype=tf.int64, trainable=False, name="tasks")
        self.failed_step = tf.Variable(-1, dtype=tf.int64, trainable=False, name="failed_step")
        self.failed_loss = tf.Variable(0.0, dtype=tf.float32, trainable=False, name="failed_loss")
        self.failed_norm = tf.Variable(0.0, dtype=tf.float32, trainable=False, name="failed_norm")
        self._support_width = support_width
        self._query_loss, self._value_and_gradients = recommender.query_loss, self._differentiate
        self._static_shapes = support_width is not None and recommender.model.static_shapes
        self._compiles_step = self._static_shapes and self._can_compile_update()
        # Not within a compiled step: a compiled function in another one is compiled anew every time.
        if support_width is not None and not self._compiles_step:
            if self._static_shapes:
                self._value_and_gradients = tf.function(self._differentiate, autograph=False, jit_compile=True)
            else:
                self._query_loss = tf.function(recommender.query_loss, autograph=False, jit_compile=True)
        # A graph's shapes follow from the configuration, never from the first batch: one made for that batch's shape
        # may round differently, and then a resumed run, whose first batch is another one, would drift.
        self._runs: dict[tuple, tf.types.experimental.GenericFunction] = {}
        # With what they hold beside the batch, variables and tables, or None where that is new in every call.
        self._concrete: dict[tuple, tuple[tf.types.experimental.ConcreteFunction, list[tf.Tensor] | None]] = {}

    def __call__(self, batch: IndexedTaskBatch) -> tf.Tensor:
        """Does one step on a batch of tensors; returns the sum of its task losses, a float64 scalar."""
        shape = (None, None)
        if self._support_width is not None:
            shape = (batch.user_row.shape[0], batch.query_row.shape[1])
        if shape not in self._concrete:
            function = self.function(tasks=shape[0], query=shape[1]).get_concrete_function()
            # As keys of collectives between replicas are.
            fixed = not function.graph.deferred_external_captures
            self._concrete[shape] = function, function.captured_inputs if fixed else None
        function, captured = self._concrete[shape]
        # Past the general call's look at arguments and captures, which costs as much as many an operation of the step.
        return function._call_flat(list(batch), function.captured_inputs if captured is None else captured)

    def function(self, *, tasks: int | None = None, query: int | None = None) -> tf.types.experimental.GenericFunction:
        """Returns the compiled step for that many tasks and query rows, or for any number."""
        if (tasks, query) not in self._runs:
            self._runs[tasks, query] = tf.function(lambda *fields: self._outer_step(IndexedTaskBatch(*fields)),
                                                   input_signature=list(batch_spec(tasks, query)), autograph=False,
                                                   jit_compile=self._compiles_step)
        return self._runs[tasks, query]

    def start_epoch(self) -> None:
        """Sets the running loss back to zero."""
        self.loss_sum.assign(0.0)
        self.tasks.assign(0)

    def task_loss(self, batch: IndexedTaskBatch, step: tf.Tensor, *, dropout_keys: tf.Tensor | None = None,
                  tables: FeatureTables | None = None) -> tf.Tensor:
        """Returns the outer loss of each task `[B]`, ids hidden as in outer step `step`.

        Popular items occur in many tasks, so every (item, id hidden or not) of the batch is encoded once and its
        representation gathered: the same numbers as `recommender.batch_loss(self.gather(batch, step))`.

        Args:
          batch: the tasks.
          step: number of the outer step, int64 scalar.
          dropout_keys: `[B]` int32, of the tasks' hidden ids (`task_keys`); default those of a batch that is the whole
            meta-batch.
          tables: other copies of the features.
        """
        recommender, tables = self._recommender, self._tables if tables is None else tables
        tasks = tf.shape(batch.user_row)[0]
        hidden = self._hidden(batch, step, tasks, dropout_keys)
        # Row 2r is item r with its id, row 2r + 1 the same item without it.
        keys = [2 * tf.where(rows < 0, tables.num_items, rows) + tf.cast(h, tf.int32)
                for rows, h in zip((batch.support_row, batch.query_row), hidden, strict=True)]
        rows = tf.concat([tf.reshape(k, [-1]) for k in keys], axis=0)
        # The number of different items is no static shape.
        distinct, index = (rows, None) if self._static_shapes else tf.unique(rows)
        features = tables.item(distinct // 2)
        features[self._id_name] = tf.where(distinct % 2 == 1, 0, features[self._id_name])
        encoded = recommender.encode_item(features)
        encoded = encoded if index is None else tf.gather(encoded, index)
        support, query = tf.split(encoded, [tf.size(keys[0]), tf.size(keys[1])])
        width = encoded.shape[-1]
        catalogue = {} if self._catalogue is None else {"catalogue": Catalogue(
            item=recommender.model.index_items(self._encode_catalogue(step, tables)),
            seen=tf.gather(self._places, tf.where(batch.support_row < 0, tables.num_items, batch.support_row)))}
        return self._query_loss(
            recommender.encode_user(tables.user(batch.user_row), tasks=tasks),
            support_item=tf.reshape(support, tf.concat([tf.shape(keys[0]), [width]], axis=0)),
            support_label=batch.support_label, support_length=batch.support_length,
            query_item=tf.reshape(query, tf.concat([tf.shape(keys[1]), [width]], axis=0)),
            query_label=batch.query_label, query_length=batch.query_length,
            progress=tf.minimum(tf.cast(step, tf.float32) / self._total_steps, 1.0), **catalogue)

    def gather(self, batch: IndexedTaskBatch, step: tf.Tensor) -> TaskBatch:
        """Returns the batch's features, ids hidden as in outer step `step`."""
        features = self._tables.gather(batch)
        hidden = self._hidden(batch, step, tf.shape(batch.user_row)[0])
        for side, hide in zip(("support_item", "query_item"), hidden, strict=True):
            item = dict(getattr(features, side))
            item[self._id_name] = tf.where(hide, 0, item[self._id_name])
            features = features._replace(**{side: item})
        return features

    def _hidden(self, batch: IndexedTaskBatch, step: tf.Tensor, tasks: tf.Tensor,
                key: tf.Tensor | None = None) -> list[tf.Tensor]:
        """Returns where the ids of support and query are hidden: bool `[B, S]` and `[B, Q]`."""
        sides = (batch.support_row, batch.query_row)
        if not (self._dropout or self._dropout_spread):
            return [tf.zeros_like(rows, tf.bool) for rows in sides]
        if self._catalogue is not None:
            key = tf.repeat(task_keys(1, seed=self._seed, step=step), tasks)
        elif key is None:
            key = task_keys(tasks, seed=self._seed, step=step)
        rate = dropout_rates(key, rate=self._dropout, spread=self._dropout_spread)
        return [item_id_dropout(rows, tf.ones_like(rows), rate=rate, key=key) == 0 for rows in sides]

    def _known_items(self, trained: np.ndarray | None) -> np.ndarray:
        """Returns the rows of the items of the vocabulary that have training interactions, int32."""
        feature = self._recommender.feature_spec.item_id
        ids = self._tables.items[feature.name][:self._tables.num_items].numpy()
        rows = np.flatnonzero(ids > feature.hash_buckets).astype(np.int32)
        if trained is not None:
            # A vocabulary may have items whose interactions are left out, as of validation users in a trial.
            rows = rows[rows < len(trained)]
            rows = rows[trained[rows]]
        if not len(rows):
            raise ConfigError(f"Outer loss 'softmax' requires items whose ids are in the vocabulary of "
                              f"'{feature.name}', received none. Use pairwise with sampler.negatives.")
        return rows

    def _encode_catalogue(self, step: tf.Tensor, tables: FeatureTables) -> tf.Tensor:
        """Returns all items of the vocabulary as in outer step `step`: `[I, Di]`."""
        features = tables.item(tf.constant(self._catalogue))
        if self._dropout or self._dropout_spread:
            key = task_keys(1, seed=self._seed, step=step)
            rate = dropout_rates(key, rate=self._dropout, spread=self._dropout_spread)
            features[self._id_name] = item_id_dropout(self._catalogue[None, :], features[self._id_name][None, :],
                                                      rate=rate, key=key)[0]
        return self._recommender.encode_item(features)

    def _can_compile_update(self) -> bool:
        """Tells whether the update may be compiled too: on processors, where that has been measured, and by rows."""
        return isinstance(self._optimizer, LazyAdam) and not tf.config.list_logical_devices("GPU")

    def _differentiate(self, batch: IndexedTaskBatch, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list]:
        """Returns the task losses `[B]`, what is minimised and its gradients by the trainable variables."""
        with tf.GradientTape() as tape:
            task_loss = self.task_loss(batch, step)
            loss = tf.add_n([tf.reduce_mean(task_loss), *self._recommender.losses])
        variables = [v.value for v in self._recommender.trainable_variables]
        return task_loss, loss, tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _outer_step(self, batch: IndexedTaskBatch) -> tf.Tensor:
        variables = self._recommender.trainable_variables
        if self._support_width is not None:
            batch = pad_support(batch, self._support_width)
        task_loss, loss, gradients = self._value_and_gradients(batch, self.step.read_value())
        gradients, norm = self._clip(self._distinct(gradients))
        total = tf.reduce_sum(tf.cast(task_loss, tf.float64))
        may_update = self._may_update(loss, norm)
        pairs = self._update_whole_tables(list(zip(gradients, variables, strict=True)), may_update)

        def update():
            self._optimizer.apply(*map(list, zip(*pairs, strict=True)))
            self._record(total, tasks=tf.size(task_loss, out_type=tf.int64))
            return tf.constant(True)

        tf.cond(may_update, update, lambda: self._stop(loss, norm))
        return total

    def _update_whole_tables(self, pairs: list[tuple], may_update: tf.Tensor) -> list[tuple]:
        """Updates those variables whose gradients are `RowSums`; returns the other pairs of gradient and variable.

        All of their rows are gone over anyway, so that where nothing may be updated no row is. In a branch of the graph
        XLA would go over them once more.
        """
        others = [(g, v) for g, v in pairs if not isinstance(g, RowSums)]
        if not others:  # The optimizer counts its steps with those.
            return pairs
        for gradient, variable in pairs:
            if isinstance(gradient, RowSums):
                gradient = gradient._replace(count=tf.where(may_update, gradient.count, 0.0))
                self._optimizer.update_step(gradient, variable.value, self._optimizer.learning_rate)
        return others

    def _distinct(self, gradients: list) -> list:
        """Each row once, because rows that occur twice in a sparse gradient would be counted apart in the norm."""
        def each(gradient, variable):
            if not (self._by_rows and isinstance(gradient, tf.IndexedSlices)):
                return tf.convert_to_tensor(gradient)
            return sum_rows(gradient, variable) if self._compiles_step else distinct(gradient)

        return [each(g, v) for g, v in zip(gradients, self._recommender.trainable_variables, strict=True)]

    def _clip(self, gradients: list) -> tuple[list, tf.Tensor]:
        """Returns the gradients within the bound, and their norm before."""
        norm = global_norm(gradients)
        if self._clip_norm is not None:
            gradients = clip_by_norm(gradients, self._clip_norm, norm=norm)
        return gradients, norm

    def _may_update(self, loss: tf.Tensor, norm: tf.Tensor) -> tf.Tensor:
        return tf.math.is_finite(loss) & tf.math.is_finite(norm) & (self.failed_step < 0)

    def _record(self, loss_sum: tf.Tensor, *, tasks: tf.Tensor) -> None:
        """Counts a step that was done."""
        self.loss_sum.assign_add(loss_sum)
        self.tasks.assign_add(tasks)
        self.step.assign_add(1)

    def _stop(self, loss: tf.Tensor, norm: tf.Tensor) -> tf.Tensor:
        """Keeps what the first step that failed had."""
        first = self.failed_step < 0
        self.failed_step.assign(tf.where(first, self.step, self.failed_step))
        self.failed_loss.assign(tf.where(first, tf.cast(loss, tf.float32), self.failed_loss))
        self.failed_norm.assign(tf.where(first, tf.cast(norm, tf.float32), self.failed_norm))
        return tf.constant(False)


def batch_spec(tasks: int | None = None, query: int | None = None) -> IndexedTaskBatch:
    """Returns the signature of a meta-batch with that many tasks and query rows; None for any number."""
    return IndexedTaskBatch(
        user_row=tf.TensorSpec([tasks], tf.int32),
        support_row=tf.TensorSpec([tasks, None], tf.int32), support_label=tf.TensorSpec([tasks, None], tf.float32),
        support_length=tf.TensorSpec([tasks], tf.int32),
        query_row=tf.TensorSpec([tasks, query], tf.int32), query_label=tf.TensorSpec([tasks, query], tf.float32),
        query_length=tf.TensorSpec([tasks], tf.int32))


def pad_support(batch: IndexedTaskBatch, width: int) -> IndexedTaskBatch:
    """Widens the support to a fixed number of rows; one that is wider already is an error of the caller's."""
    missing = [[0, 0], [0, width - tf.shape(batch.support_row)[1]]]
    shape = [batch.support_row.shape[0], width]
    return batch._replace(
        support_row=tf.ensure_shape(tf.pad(batch.support_row, missing, constant_values=-1), shape),
        support_label=tf.ensure_shape(tf.pad(batch.support_label, missing), shape))
