"""The reference workload W1: what every system of the speed benchmarks computes.

Eight categorical features (four of the user, four of the item), an embedding of 32 for each, concatenated to 256, dense
64 relu, 64 relu, 1. The inner loop is plain gradient descent on the dense layers, rate 0.01, mean squared error, on 20
support rows; the outer loss is the mean squared error on 10 query rows, averaged over the tasks, and Adam minimises it.

Tasks are random and seeded. Items are drawn from a catalogue so large that hardly any occurs twice in a meta-batch:
what a system saves by encoding an item once is not measured here. `tfmeta` runs the training loop's own outer step.
"""

import dataclasses
import itertools
from typing import Any

import numpy as np

USER_SIZES = (2, 7, 21, 3402)
ITEM_SIZES = (6, 25, 2186, 8030)
EMBEDDING_DIM = 32
UNITS = (64, 64)
INNER_RATE = 0.01
OUTER_RATE = 1e-3
NUM_USERS, NUM_ITEMS = 6_040, 100_000
# Transformed ids 0 and 1 are missing and unknown; known values follow.
FIRST_ID = 2


@dataclasses.dataclass(frozen=True)
class W1:
    """One setting of the workload.

    Attributes:
      inner_steps: gradient steps on the support set.
      tasks: tasks of a meta-batch.
      order: 2, or 1 for gradients that are constants in the outer loop.
      support, query: rows of each task.
      batches: distinct meta-batches, used in turn.
      seed: of tasks and initial values.
    """

    inner_steps: int = 5
    tasks: int = 32
    order: int = 2
    support: int = 20
    query: int = 10
    batches: int = 20
    seed: int = 0

    def user_features(self) -> np.ndarray:
        """Returns transformed ids `[U, 4]` int32."""
        return _ids(USER_SIZES, NUM_USERS, [self.seed, 1])

    def item_features(self) -> np.ndarray:
        """Returns transformed ids `[I, 4]` int32."""
        return _ids(ITEM_SIZES, NUM_ITEMS, [self.seed, 2])

    def task_rows(self) -> dict[str, np.ndarray]:
        """Returns `user_row [K, B]`, `support_row [K, B, S]`, `query_row [K, B, Q]` int32 and `support_label`,
        `query_label` float32 of the K meta-batches; labels are whole numbers from 1 to 5.
        """
        rng = np.random.default_rng([self.seed, 3])
        lead = (self.batches, self.tasks)
        rows = {"user_row": rng.integers(0, NUM_USERS, lead).astype(np.int32)}
        for side, width in (("support", self.support), ("query", self.query)):
            rows[f"{side}_row"] = rng.integers(0, NUM_ITEMS, (*lead, width)).astype(np.int32)
            rows[f"{side}_label"] = rng.integers(1, 6, (*lead, width)).astype(np.float32)
        return rows

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all that a peer needs: the tasks in feature ids, the initial values and the numbers above.

        `table [R, 32]` is all embedding tables stacked; ids of features are rows of it. `kernel_l [in, out]` and
        `bias_l [out]` belong to dense layer l.
        """
        rows = self.task_rows()
        first = np.cumsum([0, *(size + FIRST_ID for size in (*USER_SIZES, *ITEM_SIZES))])[:-1].astype(np.int32)
        users = self.user_features() + first[:len(USER_SIZES)]
        items = self.item_features() + first[len(USER_SIZES):]
        return {"user": users[rows["user_row"]], "support_item": items[rows["support_row"]],
                "query_item": items[rows["query_row"]], "support_label": rows["support_label"],
                "query_label": rows["query_label"], **initial_values(build(self)),
                "inner_rate": np.float32(INNER_RATE), "outer_rate": np.float32(OUTER_RATE)}


def feature_spec():
    """Returns the specification: vocabularies of W1, labels as they are."""
    from tfmeta.data.feature import Feature
    from tfmeta.data.feature_spec import FeatureSpec
    from tfmeta.data.label import Label

    def features(side: str, sizes: tuple[int, ...]):
        return tuple(Feature(f"{side}_{i}", "categorical", "int64", vocabulary=tuple(range(size)))
                     for i, size in enumerate(sizes))

    return FeatureSpec(
        label=Label("rating", mean=0.0, std=1.0), user_id=Feature("user_id", "categorical", "int64", vocabulary=(0,)),
        item_id=Feature("item_id", "categorical", "int64", vocabulary=(0,)),
        user_features=features("user", USER_SIZES), item_features=features("item", ITEM_SIZES))


def build(w1: W1, *, first_order: bool | None = None):
    """Returns the recommender that computes W1."""
    from tfmeta.models.recommender import build_recommender

    return build_recommender(
        feature_spec(), seed=w1.seed,
        model={"name": "embedding", "embedding_dim": EMBEDDING_DIM, "units": list(UNITS), "use_item_id": False},
        learner={"name": "maml", "scope": "head", "inner_steps": w1.inner_steps, "inner_learning_rate": INNER_RATE,
                 "learn_rates": "fixed", "inner_loss": "squared_error", "outer_loss": "squared_error",
                 "first_order": w1.order == 1 if first_order is None else first_order})


def initial_values(recommender) -> dict[str, np.ndarray]:
    """Reads `table`, `kernel_l` and `bias_l` out of a recommender, however it stores them."""
    import tensorflow as tf

    spec, parts = recommender.feature_spec, []
    for side, features in (("user", spec.user_features), ("item", spec.item_features)):
        rows = max(f.num_ids for f in features)
        ids = {f.name: tf.minimum(tf.range(rows), f.num_ids - 1) for f in features}
        if side == "user":
            encoded = recommender.encode_user(ids, tasks=tf.constant(rows))
        else:
            encoded = recommender.encode_item({**ids, spec.item_id.name: tf.zeros([rows], tf.int32)})
        columns = np.split(np.asarray(encoded), len(features), axis=1)
        parts += [column[:f.num_ids] for f, column in zip(features, columns, strict=True)]
    dense = {v.name: np.asarray(v.value) for v in recommender.trainable_variables if v.name.startswith("decision_")}
    values = {"table": np.concatenate(parts)}
    for layer in range(len(UNITS) + 1):
        values[f"kernel_{layer}"] = dense[f"decision_{layer}_kernel"]
        values[f"bias_{layer}"] = dense[f"decision_{layer}_bias"].reshape(-1)
    return values


def outer_step(w1: W1, recommender, *, dense: bool = False, xla: bool = False, strategy=None):
    """Returns the training loop's outer step on W1's users and items.

    Args:
      w1: the setting.
      recommender: of `build`.
      dense: Adam on whole tables, to compare losses with systems that have nothing else.
      xla: as `TrainConfig.xla`.
      strategy: the `tf.distribute.Strategy` under whose scope the recommender was built; the step then shares out its
        meta-batch over the replicas.
    """
    import keras
    import tensorflow as tf

    from tfmeta.data.feature_tables import FeatureTables
    from trainer.config import OptimizerConfig
    from trainer.distribution.distributed_outer_step import DistributedOuterStep
    from trainer.optimizer import LearningRate, build_optimizer
    from trainer.outer_step import OuterStep

    config = OptimizerConfig(name="adam", learning_rate=OUTER_RATE, clip_norm=None)
    schedule, variables = LearningRate(config, total_steps=1_000_000), recommender.trainable_variables
    if dense:
        optimizer = keras.optimizers.Adam(learning_rate=OUTER_RATE)
        optimizer.build(variables)
    elif strategy is not None:
        with strategy.scope():
            optimizer = build_optimizer(config, schedule=schedule, variables=variables, exempt=[], summed=True)
    else:
        optimizer = build_optimizer(config, schedule=schedule, variables=variables, exempt=[])
    users = {f"user_{i}": tf.constant(column) for i, column in enumerate(w1.user_features().T)}
    # The last row is the content-free item: every feature missing.
    items = {f"item_{i}": tf.constant(np.append(column, np.int32(0)))
             for i, column in enumerate(w1.item_features().T)}
    items["item_id"] = tf.zeros([NUM_ITEMS + 1], tf.int32)
    tables = FeatureTables(users=users, items=items, num_users=NUM_USERS, num_items=NUM_ITEMS)
    options = {"optimizer": optimizer, "tables": tables, "clip_norm": config.clip_norm, "dropout": 0.0,
               "seed": w1.seed, "support_width": w1.support if xla else None}
    if strategy is not None:
        return DistributedOuterStep(recommender, strategy=strategy, **options)
    return OuterStep(recommender, **options)


def batches(w1: W1) -> list[Any]:
    """Returns the meta-batches as `IndexedTaskBatch`es of tensors."""
    import tensorflow as tf

    from tfmeta.data.task_batch import IndexedTaskBatch

    rows = w1.task_rows()
    found = []
    for k in range(w1.batches):
        found.append(IndexedTaskBatch(
            user_row=tf.constant(rows["user_row"][k]), support_row=tf.constant(rows["support_row"][k]),
            support_label=tf.constant(rows["support_label"][k]), support_length=tf.fill([w1.tasks], w1.support),
            query_row=tf.constant(rows["query_row"][k]), query_label=tf.constant(rows["query_label"][k]),
            query_length=tf.fill([w1.tasks], w1.query)))
    return found


def plain_flops(w1: W1) -> int:
    """Returns the floating-point operations of the plain algorithm's matrix products, per task.

    A dense layer of `in` times `out` on n rows costs F = 2 n in out forwards, F for the gradient of its kernel and F
    for that of its input. Inner step: forward, kernel gradients, and input gradients but for the first layer, whose
    input is no fast weight. Second order differentiates each of these products, which takes two more for each; there
    the input of the first layer counts, because the embeddings are slow weights. First order stops at the inner
    gradients. The query set costs a forward pass and both gradients.
    """
    widths = (EMBEDDING_DIM * (len(USER_SIZES) + len(ITEM_SIZES)), *UNITS, 1)
    sizes = [2 * a * b for a, b in itertools.pairwise(widths)]
    first, rest = sizes[0], sum(sizes[1:])
    inner = w1.support * (2 * first + 3 * rest) * (3 if w1.order == 2 else 1)
    return w1.inner_steps * inner + 3 * w1.query * (first + rest)


def _ids(sizes: tuple[int, ...], count: int, seed: list[int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (FIRST_ID + rng.integers(0, np.array(sizes), (count, len(sizes)))).astype(np.int32)
