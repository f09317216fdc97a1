"""One step of the outer loop, as a graph."""

import tensorflow as tf

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.task_batch import IndexedTaskBatch, TaskBatch
from tfmeta.models.recommender import Recommender
from trainer.item_id_dropout import item_id_dropout, task_keys

BATCH_SPEC = IndexedTaskBatch(
    user_row=tf.TensorSpec([None], tf.int32),
    support_row=tf.TensorSpec([None, None], tf.int32), support_label=tf.TensorSpec([None, None], tf.float32),
    support_length=tf.TensorSpec([None], tf.int32),
    query_row=tf.TensorSpec([None, None], tf.int32), query_label=tf.TensorSpec([None, None], tf.float32),
    query_length=tf.TensorSpec([None], tf.int32))


class OuterStep:
    """Gathers features, adapts, differentiates and updates; one compiled function.

    The mean loss over the batch's actual tasks plus the model's regularisation is minimised. A step whose loss
    or gradient norm is not finite changes nothing, and neither does any step after it: `failed_step` holds its
    number, so that the caller may look at it seldom without the weights being lost.

    Args:
      recommender: whose trainable variables are updated.
      optimizer: a built Keras optimizer over them.
      tables: features by row.
      clip_norm: bound of the global gradient norm, or None.
      dropout: probability of hiding an item's id.
      seed: of the dropout.

    Attributes:
      step: outer steps done, int64 scalar variable.
      loss_sum, tasks: since the epoch's start: sum of the task losses (float64) and number of tasks (int64).
      failed_step: number of the step that failed, -1 while none has; int64 scalar variable.
      failed_loss, failed_norm: its loss and gradient norm, float32.
    """

    def __init__(self, recommender: Recommender, *, optimizer, tables: FeatureTables, clip_norm: float | None,
                 dropout: float, seed: int):
        self._recommender, self._optimizer, self._tables = recommender, optimizer, tables
        self._clip_norm, self._dropout, self._seed = clip_norm, dropout, seed
        self._id_name = recommender.feature_spec.item_id.name
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="loss_sum")
        self.tasks = tf.Variable(0, dtype=tf.int64, trainable=False, name="tasks")
        self.failed_step = tf.Variable(-1, dtype=tf.int64, trainable=False, name="failed_step")
        self.failed_loss = tf.Variable(0.0, dtype=tf.float32, trainable=False, name="failed_loss")
        self.failed_norm = tf.Variable(0.0, dtype=tf.float32, trainable=False, name="failed_norm")
        # One graph for all batch shapes: a graph made for one shape may round differently, and then a resumed run,
        # whose first batch is another one, would drift from the uninterrupted run.
        self._run = tf.function(self._outer_step, input_signature=[BATCH_SPEC])

    def __call__(self, batch: IndexedTaskBatch) -> None:
        """Does one step."""
        self._run(batch)

    def start_epoch(self) -> None:
        """Sets the running loss back to zero."""
        self.loss_sum.assign(0.0)
        self.tasks.assign(0)

    def gather(self, batch: IndexedTaskBatch, step: tf.Tensor) -> TaskBatch:
        """Returns the batch's features, ids hidden as in outer step `step`."""
        features = self._tables.gather(batch)
        if not self._dropout:
            return features
        key = task_keys(tf.shape(batch.user_row)[0], seed=self._seed, step=step)
        hidden = {}
        for side, rows in (("support_item", batch.support_row), ("query_item", batch.query_row)):
            item = dict(getattr(features, side))
            item[self._id_name] = item_id_dropout(rows, item[self._id_name], rate=self._dropout, key=key)
            hidden[side] = item
        return features._replace(**hidden)

    def _outer_step(self, batch: IndexedTaskBatch) -> None:
        variables = self._recommender.trainable_variables
        features = self.gather(batch, self.step)
        with tf.GradientTape() as tape:
            task_loss = self._recommender.batch_loss(features)
            loss = tf.add_n([tf.reduce_mean(task_loss), *self._recommender.losses])
        gradients = tape.gradient(loss, [v.value for v in variables],
                                  unconnected_gradients=tf.UnconnectedGradients.ZERO)
        # Dense, because rows that occur twice in a sparse gradient would be counted apart in the norm.
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        norm = tf.linalg.global_norm(gradients)
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        fine = tf.math.is_finite(loss) & tf.math.is_finite(norm)

        def update():
            self._optimizer.apply(gradients, variables)
            self.loss_sum.assign_add(tf.reduce_sum(tf.cast(task_loss, tf.float64)))
            self.tasks.assign_add(tf.size(task_loss, out_type=tf.int64))
            self.step.assign_add(1)
            return tf.constant(True)

        def stop():
            first = self.failed_step < 0
            self.failed_step.assign(tf.where(first, self.step, self.failed_step))
            self.failed_loss.assign(tf.where(first, tf.cast(loss, tf.float32), self.failed_loss))
            self.failed_norm.assign(tf.where(first, tf.cast(norm, tf.float32), self.failed_norm))
            return tf.constant(False)

        tf.cond(fine & (self.failed_step < 0), update, stop)
