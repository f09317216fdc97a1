"""One step of the outer loop on all replicas."""

import tensorflow as tf

from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.task_batch import IndexedTaskBatch
from trainer.distinct_slices import DistinctSlices
from trainer.item_id_dropout import task_keys
from trainer.outer_step import OuterStep, pad_support


class DistributedOuterStep(OuterStep):
    """The outer step of `OuterStep`, its tasks shared out over the replicas of a strategy.

    Every worker is given the same meta-batch of B tasks, since the draw is a pure function of the seed. With R
    replicas each takes n = ceil(B / R) places of it: replica r those from r n to r n + n - 1. Places beyond the batch,
    which only an epoch's last batch has, repeat its last task with weight 0, so that shapes agree and no replica is
    without a task. What replica r minimises is

        sum of its tasks' losses / B + regularisation / R

    so the sum of the gradients over replicas, formed once, is the gradient that one process would have. Rows of
    embedding tables are added up within a replica first, so that only distinct rows travel, and once more over
    replicas. From there on (norm, bound, check, update) every replica does the same with the same numbers, and
    their weights stay equal.

    Args:
      strategy: the `tf.distribute.Strategy` under whose scope recommender and optimizer were made; the optimizer must
        leave gradients as they are (`SummedGradients`).
      recommender, **options: see `OuterStep`, which also has the attributes.
    """

    def __init__(self, recommender, *, strategy: tf.distribute.Strategy, **options):
        super().__init__(recommender, **options)
        self._strategy = strategy
        self._replicas = strategy.num_replicas_in_sync
        devices = strategy.extended.worker_devices
        # Each device gathers from a copy of its own.
        self._users, self._items = ({name: self._copies(table, devices) for name, table in side.items()}
                                    for side in (self._tables.users, self._tables.items))

    def _copies(self, table: tf.Tensor, devices: tuple[str, ...]):
        """Returns the table, or one copy a device where there are several."""
        if len(devices) == 1:
            return table
        copies = []
        for device in devices:
            with tf.device(device):
                copies.append(tf.identity(table))
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: copies[context.replica_id_in_sync_group % len(devices)])

    def _can_compile_update(self) -> bool:
        return False  # What travels between replicas is no part of a compiled function.

    def _differentiate(self, batch, step, keys, real, tasks, tables) -> tuple[tf.Tensor, tf.Tensor, list]:
        """In a replica: returns its share of (task losses, what is minimised, gradients).

        Args:
          batch, keys, tables: see `task_loss`.
          step: number of the outer step.
          real: `[n]` bool, places that are tasks of their own.
          tasks: number of tasks of the whole meta-batch.
        """
        with tf.GradientTape() as tape:
            task_loss = self.task_loss(batch, step, dropout_keys=keys, tables=tables)
            task_loss = tf.where(real, task_loss, tf.zeros_like(task_loss))
            loss = tf.reduce_sum(task_loss) / tf.cast(tasks, task_loss.dtype)
            loss = tf.add_n([loss, *(term / self._replicas for term in self._recommender.losses)])
        variables = [v.value for v in self._recommender.trainable_variables]
        return task_loss, loss, tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _outer_step(self, batch: IndexedTaskBatch) -> tf.Tensor:
        strategy, variables = self._strategy, self._recommender.trainable_variables
        if self._support_width is not None:
            batch = pad_support(batch, self._support_width)
        number = self.step.read_value()
        loss, total, norm, gradients = strategy.run(
            self._share, args=(tuple(batch), number, self._users, self._items))
        # Equal on all replicas.
        loss, total, norm = (strategy.experimental_local_results(x)[0] for x in (loss, total, norm))

        def update():
            strategy.run(lambda g: self._optimizer.apply(g, variables), args=(gradients,))
            self._record(total, tasks=tf.shape(batch.user_row, out_type=tf.int64)[0])
            return tf.constant(True)

        tf.cond(self._may_update(loss, norm), update, lambda: self._stop(loss, norm))
        return total

    def _share(self, fields: tuple, step: tf.Tensor, users: dict, items: dict) -> tuple:
        """In a replica: returns (loss, sum of task losses, gradient norm, gradients), all over all replicas."""
        context, whole = tf.distribute.get_replica_context(), IndexedTaskBatch(*fields)
        tasks = whole.user_row.shape[0]
        tasks = tf.shape(whole.user_row)[0] if tasks is None else tasks
        count = -(-tasks // self._replicas)
        place = context.replica_id_in_sync_group * count + tf.range(count)
        real, place = place < tasks, tf.minimum(place, tasks - 1)
        batch = IndexedTaskBatch(*(tf.gather(field, place) for field in whole))
        # A task's hidden ids follow from its place in the whole meta-batch.
        keys = tf.gather(task_keys(tf.convert_to_tensor(tasks), seed=self._seed, step=step), place)
        tables = FeatureTables(users=users, items=items, num_users=self._tables.num_users,
                               num_items=self._tables.num_items)
        task_loss, loss, gradients = self._value_and_gradients(batch, step, keys, real, tasks, tables)
        total = tf.reduce_sum(tf.cast(task_loss, tf.float64))
        # Apart, because dense tensors are joined into one, which takes one dtype.
        total = context.all_reduce(tf.distribute.ReduceOp.SUM, total)
        gradients = [not_empty(g) for g in self._distinct(gradients)]
        loss, *gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])
        gradients, norm = self._clip([within_table(g) for g in self._distinct(gradients)])
        return loss, total, norm, gradients


def not_empty(gradient):
    """Gives a row-sparse gradient without slices, as where all ids are hidden, one of zeros behind its last row.

    TensorFlow's collective gather ends the process on an empty tensor (2.21, `CollectiveRemoteAccessLocal`).
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    missing = tf.cast(tf.equal(tf.size(gradient.indices), 0), tf.int32)
    behind = tf.cast(gradient.dense_shape[0], gradient.indices.dtype)
    return DistinctSlices(tf.pad(gradient.values, [[0, missing], [0, 0]]),
                          tf.pad(gradient.indices, [[0, missing]], constant_values=behind), gradient.dense_shape)


def within_table(gradient):
    """Takes out what `not_empty` has put in."""
    if not isinstance(gradient, DistinctSlices):
        return gradient
    rows = tf.cast(gradient.dense_shape[0], gradient.indices.dtype)
    kept = tf.reshape(tf.where(gradient.indices < rows), [-1])
    return DistinctSlices(tf.gather(gradient.values, kept), tf.gather(gradient.indices, kept), gradient.dense_shape)
