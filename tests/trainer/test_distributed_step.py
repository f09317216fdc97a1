"""Two replicas' step is the plain step, whatever the learner, the optimizer and the compiler."""

import pathlib
import sys
from queue import Empty

import numpy as np
import pytest
from distribution_cases import forkserver, two_processors

# Where the learners' cases are.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "learners"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

USERS, ITEMS = 6, 9
# Their training loss draws noise by a task's place in its batch, or compares the tasks of a batch with each other, so
# that a replica's share is another draw.
NOT_BY_TASK = {"tanp", "dropout_net"}


def tables():
    import tensorflow as tf
    from recommender_cases import make_batch

    from tfmeta.data.feature_tables import FeatureTables

    features = make_batch(USERS, support=1, query=ITEMS + 1)
    items = {name: value[0] for name, value in features.query_item.items()}
    items["item_id"] = tf.range(ITEMS + 1) % 12
    return FeatureTables(users=features.user, items=items, num_users=USERS, num_items=ITEMS)


def batch(tasks: int, *, unit: str):
    import tensorflow as tf

    from tfmeta.data.task_batch import IndexedTaskBatch

    rng = np.random.default_rng(tasks)
    length = rng.integers(1, 6, tasks).astype(np.int32)
    rows = rng.integers(0, ITEMS, (tasks, 5)).astype(np.int32)
    rows[np.arange(5)[None, :] >= length[:, None]] = -1

    def labels(width):
        return (rng.integers(1, 6, (tasks, width)) if unit == "rating"
                else rng.integers(0, 2, (tasks, width))).astype(np.float32)

    return IndexedTaskBatch(*map(tf.constant, (
        rng.integers(0, USERS, tasks).astype(np.int32), rows, labels(5), length,
        rng.integers(0, ITEMS, (tasks, 3)).astype(np.int32), labels(3), np.full(tasks, 3, np.int32))))


def trained(strategy, *, model, learner, optimizer, unit, support_width, regularisation=0.0, keep=()):
    """Returns (losses of three steps, weights) of one device or, with a strategy, of its replicas."""
    import contextlib

    import keras
    from learner_cases import perturb
    from recommender_cases import make_spec

    from tfmeta.models.recommender import build_recommender
    from trainer.config import OptimizerConfig
    from trainer.distribution.distributed_outer_step import DistributedOuterStep
    from trainer.optimizer import LearningRate, build_optimizer
    from trainer.outer_step import OuterStep

    config = OptimizerConfig(**optimizer)
    with strategy.scope() if strategy else contextlib.nullcontext():
        recommender = build_recommender(make_spec(unit), model=model, learner=learner)
        built = build_optimizer(config, schedule=LearningRate(config, total_steps=3),
                                variables=recommender.trainable_variables, exempt=[], summed=strategy is not None)
    perturb(recommender, keep=keep)
    if regularisation:
        recommender.trainable_variables[0].regularizer = keras.regularizers.L2(regularisation)
        assert len(recommender.losses) == 1
    options = {"optimizer": built, "tables": tables(), "clip_norm": config.clip_norm, "dropout": 0.3, "seed": 4,
               "dropout_spread": 0.5, "total_steps": 3, "support_width": support_width}
    step = (DistributedOuterStep(recommender, strategy=strategy, **options) if strategy
            else OuterStep(recommender, **options))
    losses = []
    for tasks in (5, 4, 1):
        step(batch(tasks, unit=unit))
        losses.append(float(step.loss_sum))
    assert int(step.step) == 3 and int(step.tasks) == 10 and int(step.failed_step) == -1
    return losses, {v.path: np.asarray(v.value) for v in recommender.trainable_variables}


def compare(cases, queue) -> None:
    """In a child: puts (name, largest difference of losses, of weights, largest change of a weight) of each case."""
    two_processors()
    import keras
    import tensorflow as tf

    keras.config.set_dtype_policy("float64")
    strategy = tf.distribute.MirroredStrategy([d.name for d in tf.config.list_logical_devices("CPU")])
    assert strategy.num_replicas_in_sync == 2
    for name, case in cases:
        try:
            (plain, weights), (shared, others) = trained(None, **case), trained(strategy, **case)
            queue.put((name, float(np.abs(np.subtract(plain, shared)).max()),
                       max(float(np.abs(weights[k] - others[k]).max()) for k in weights), None))
        except Exception as error:
            queue.put((name, np.inf, np.inf, repr(error)))


def differences(cases) -> dict:
    context = forkserver()
    queue = context.Queue()
    process = context.Process(target=compare, args=(cases, queue))
    process.start()
    found = []
    while len(found) < len(cases):
        try:
            found.append(queue.get(timeout=5))
        except Empty:
            assert process.is_alive(), f"ended with {process.exitcode} after {[name for name, *_ in found]}"
    process.join()
    assert process.exitcode == 0
    return {name: rest for name, *rest in found}


ADAM = {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.1, "clip_norm": 0.5}


def test_every_learner_whose_loss_is_a_sum_over_tasks():
    from learner_cases import CASES

    from tfmeta.models.recommender import LEARNERS

    chosen = {case.name: case for case in CASES if case.name not in NOT_BY_TASK}
    assert set(chosen) == set(LEARNERS) - NOT_BY_TASK
    cases = [(name, {"model": case.model, "learner": {"name": name, **case.options}, "optimizer": ADAM,
                     "unit": case.unit, "support_width": None, "keep": case.keep}) for name, case in chosen.items()]
    for name, (loss, weight, error) in differences(cases).items():
        assert error is None, (name, error)
        assert loss < 1e-8 and weight < 1e-6, (name, loss, weight)


def test_every_optimizer_and_xla():
    case = {"model": {"name": "embedding", "embedding_dim": 4, "units": [8, 8], "use_item_id": True},
            "learner": {"name": "anil", "scope": "last_layer", "inner_steps": 1}, "unit": "rating",
            "support_width": None}
    cases = [(str(options), case | {"optimizer": {"learning_rate": 0.01, **options}})
             for options in ({"name": "sgd"}, {"name": "sgd", "momentum": 0.9, "clip_norm": None},
                             {"name": "adam"}, {"name": "nadam"}, {"name": "rmsprop"}, {"name": "adagrad"})]
    cases.append(("xla", case | {"optimizer": ADAM, "support_width": 6}))
    cases.append(("softmax", {"model": {"name": "two_tower"}, "unit": "click", "optimizer": ADAM, "support_width": None,
                              "learner": {"name": "ridge", "outer_loss": "softmax"}}))
    cases.append(("regularised", case | {"optimizer": ADAM, "regularisation": 0.1}))
    for name, (loss, weight, error) in differences(cases).items():
        assert error is None, (name, error)
        assert loss < 1e-8 and weight < 1e-6, (name, loss, weight)
