"""Updates by rows: against dense Adam, against the formula in NumPy, and in the outer step's graph."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from recommender_cases import MODEL_SCOPES, make_spec, randomise
from test_outer_step import indexed, tables, without_lists

from tfmeta.models.recommender import build_recommender
from trainer.config import OptimizerConfig
from trainer.distinct_slices import DistinctSlices, RowSums, clip_by_norm, distinct, global_norm, sum_rows
from trainer.lazy_adam import LazyAdam
from trainer.optimizer import LearningRate, build_optimizer, exempt_from_decay
from trainer.outer_step import OuterStep


class NumpyLazyAdam:
    """The formula of LazyAdam's docstring, row by row."""

    def __init__(self, weight, *, rate, decay=0.0, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        self.w, self.m, self.v, self.t = np.array(weight), np.zeros_like(weight), np.zeros_like(weight), 0
        self.rate, self.decay, self.beta_1, self.beta_2, self.epsilon = rate, decay, beta_1, beta_2, epsilon

    def step(self, rows, values):
        self.t += 1
        for row in set(rows):
            gradient = sum(value for r, value in zip(rows, values, strict=True) if r == row)
            self.w[row] -= self.rate * self.decay * self.w[row]
            self.m[row] += (1 - self.beta_1) * (gradient - self.m[row])
            self.v[row] += (1 - self.beta_2) * (gradient**2 - self.v[row])
            alpha = self.rate * np.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
            self.w[row] -= alpha * self.m[row] / (np.sqrt(self.v[row]) + self.epsilon)


def state(optimizer, variable):
    """The variable and its two moments, as arrays."""
    return [x.numpy() for x in (variable, optimizer._momentums[0], optimizer._velocities[0])]


def slices(rows, values, size):
    return tf.IndexedSlices(tf.constant(values), tf.constant(rows, tf.int32), tf.constant([size, values.shape[1]]))


def keras_variable(value):
    return keras.Variable(value, dtype=value.dtype.name)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=6),
       decay=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 2**31))
def test_any_repetition_of_rows_follows_the_formula(steps, decay, seed):
    rng = np.random.default_rng(seed)
    start = rng.normal(size=(6, 2))
    variable, reference = keras_variable(start), NumpyLazyAdam(start, rate=0.05, decay=decay)
    optimizer = LazyAdam(0.05, weight_decay=decay or None)
    optimizer._learning_rate = keras_variable(np.float64(0.05))  # in full precision
    optimizer.build([variable])
    for rows in steps:
        values = rng.normal(size=(len(rows), 2))
        optimizer.apply([slices(rows, values, 6)], [variable])
        reference.step(rows, values)
    for received, expected in zip(state(optimizer, variable), (reference.w, reference.m, reference.v), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-10, atol=1e-12)
    untouched = [r for r in range(6) if not any(r in rows for rows in steps)]
    np.testing.assert_array_equal(variable.numpy()[untouched], start[untouched])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decay", [None, 0.1])
def test_equals_keras_adam_where_every_row_occurs_at_every_step(dtype, decay):
    schedule = LearningRate(OptimizerConfig(learning_rate=0.02, schedule="cosine"), total_steps=8)

    def run(optimizer, dense):
        rng = np.random.default_rng(3)
        table, kernel = (keras_variable(rng.normal(size=s).astype(dtype)) for s in ((7, 3), (3, 2)))
        optimizer.build([table, kernel])
        if decay:
            optimizer.exclude_from_weight_decay(var_list=[kernel])
        for _ in range(8):
            rows = np.concatenate([rng.permutation(7), rng.integers(0, 7, 4)])
            gradient = slices(rows, rng.normal(size=(11, 3)).astype(dtype), 7)
            other = tf.constant(rng.normal(size=(3, 2)).astype(dtype))
            optimizer.apply([tf.convert_to_tensor(gradient) if dense else gradient, other], [table, kernel])
        assert int(optimizer.iterations) == 8
        return [v.numpy() for v in optimizer.variables] + [table.numpy(), kernel.numpy()]

    ours, dense = run(LazyAdam(schedule, weight_decay=decay), False), run(
        keras.optimizers.Adam(schedule, weight_decay=decay), True)
    for received, expected in zip(ours, dense, strict=True):
        if dtype == "float32":
            np.testing.assert_array_equal(received, expected)
        else:  # Keras rounds beta_1, beta_2 and the decay to float32 whatever the variables are
            np.testing.assert_allclose(received, expected, rtol=2e-5, atol=1e-6)


def test_a_row_that_does_not_occur_stays_unlike_in_dense_adam():
    def run(optimizer, dense):
        table = keras_variable(np.ones((2, 1)))
        optimizer.build([table])
        for rows in ([0, 1], [0], [0]):
            gradient = slices(rows, np.ones((len(rows), 1)), 2)
            optimizer.apply([tf.convert_to_tensor(gradient) if dense else gradient], [table])
        return [x[1, 0] for x in state(optimizer, table)]

    w, m, v = run(LazyAdam(0.1, weight_decay=0.5), False)
    assert (m, v) == pytest.approx((0.1, 0.001)) and w == pytest.approx(1 - 0.1 * 0.5 - 0.1, rel=1e-5)
    dense_w, dense_m, dense_v = run(keras.optimizers.Adam(0.1, weight_decay=0.5), True)
    assert (dense_m, dense_v) == pytest.approx((0.1 * 0.9**2, 0.001 * 0.999**2))
    assert dense_w < w - 0.1


def test_exempt_tables_do_not_decay():
    table = keras_variable(np.ones((2, 1)))
    config = OptimizerConfig(name="adamw", learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(config, schedule=LearningRate(config, total_steps=1), variables=[table],
                                exempt=[table])
    optimizer.apply([slices([0, 1], np.zeros((2, 1)), 2)], [table])
    np.testing.assert_array_equal(table.numpy(), np.ones((2, 1)))


def test_configuration_round_trip():
    config = LazyAdam(0.1, beta_1=0.8, beta_2=0.9, epsilon=1e-5, weight_decay=0.2, name="outer").get_config()
    assert LazyAdam.from_config(config).get_config() == config
    again = keras.optimizers.deserialize(keras.optimizers.serialize(LazyAdam(0.1)))
    assert isinstance(again, LazyAdam)


def test_a_checkpoint_holds_all_of_its_state(tmp_path):
    rng = np.random.default_rng(0)
    batches = [(rng.integers(0, 6, 8), rng.normal(size=(8, 2))) for _ in range(6)]

    def fresh():
        table = keras_variable(np.ones((6, 2)))
        optimizer = LazyAdam(0.1, weight_decay=0.1)
        optimizer.build([table])
        return table, optimizer

    def advance(optimizer, table, part):
        for rows, values in part:
            optimizer.apply([slices(rows, values, 6)], [table])

    table, optimizer = fresh()
    advance(optimizer, table, batches[:3])
    path = tf.train.Checkpoint(optimizer=optimizer, table=table.value).save(str(tmp_path / "c"))
    advance(optimizer, table, batches[3:])
    other, resumed = fresh()
    tf.train.Checkpoint(optimizer=resumed, table=other.value).restore(path).assert_existing_objects_matched()
    advance(resumed, other, batches[3:])
    for left, right in zip(state(optimizer, table), state(resumed, other), strict=True):
        np.testing.assert_array_equal(left, right)
    assert int(resumed.iterations) == 6


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 4), max_size=12), clip=st.floats(0.01, 10), seed=st.integers(0, 2**31))
def test_norm_and_clipping_count_a_repeated_row_once(rows, clip, seed):
    rng = np.random.default_rng(seed)
    gradient = slices(rows, rng.normal(size=(len(rows), 3)), 5)
    other = tf.constant(rng.normal(size=(2, 2)))
    added = distinct(gradient)
    assert distinct(added) is added and len(set(added.indices.numpy())) == len(added.indices) == len(set(rows))
    dense = [tf.convert_to_tensor(gradient), other]
    norm = tf.linalg.global_norm([added, other])
    np.testing.assert_allclose(norm, tf.linalg.global_norm(dense), rtol=1e-12)
    clipped = clip_by_norm([added, other], clip, norm=norm)
    assert isinstance(clipped[0], DistinctSlices)
    for received, expected in zip(clipped, tf.clip_by_global_norm(dense, clip)[0], strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(received), expected, rtol=1e-10, atol=1e-14)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=12), size=st.sampled_from([5, 60]),
       clip=st.floats(0.01, 10), seed=st.integers(0, 2**31))
def test_static_sums_of_rows_are_the_distinct_ones(rows, size, clip, seed):
    rng = np.random.default_rng(seed)
    gradient, other = slices(rows, rng.normal(size=(len(rows), 3)), size), tf.constant(rng.normal(size=(2, 2)))
    dense = [tf.convert_to_tensor(gradient), other]
    received = [sum_rows(gradient, tf.zeros([size, 3])), other]
    norm = global_norm(received)
    np.testing.assert_allclose(norm, tf.linalg.global_norm(dense), rtol=1e-12)
    clipped = clip_by_norm(received, clip, norm=norm)
    assert isinstance(received[0], RowSums) == isinstance(clipped[0], RowSums) == (size <= 4 * len(rows))
    for sums, expected in zip((received, clipped), (dense, tf.clip_by_global_norm(dense, clip)[0]), strict=True):
        table = np.zeros((size + 1, 3))
        if isinstance(sums[0], RowSums):
            table[:size] = sums[0].total
            np.testing.assert_array_equal(sums[0].count, np.bincount(rows, minlength=size))
        else:
            index = sums[0].indices.numpy()
            assert list(index) == sorted(set(rows)) + [size] * (len(rows) - len(set(rows)))
            table[index] = sums[0].values
        np.testing.assert_allclose(table[:size], expected[0], rtol=1e-10, atol=1e-14)
        assert not table[size].any()


@functools.cache
def compiled_updates(size, slices):
    """A table, its optimizer and an update that XLA compiles, all of it one function for all examples."""
    table, optimizer = keras_variable(np.zeros((size, 2))), LazyAdam(0.05, weight_decay=0.3)
    optimizer._learning_rate = keras_variable(np.float64(0.05))
    optimizer.build([table])

    @tf.function(jit_compile=True, autograph=False, input_signature=[
        tf.TensorSpec([slices], tf.int32), tf.TensorSpec([slices, 2], tf.float64)])
    def update(rows, values):
        optimizer.apply([sum_rows(tf.IndexedSlices(values, rows, tf.constant([size, 2])), table)], [table])

    return table, optimizer, update


@pytest.mark.parametrize("size,slices", [(6, 7), (60, 7), (6, None)])
@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.lists(st.integers(0, 5), min_size=7, max_size=7), min_size=1, max_size=5),
       seed=st.integers(0, 2**31))
def test_compiled_updates_follow_the_formula(size, slices, steps, seed):
    rng = np.random.default_rng(seed)
    table, optimizer, update = compiled_updates(size, slices)
    start = rng.normal(size=(size, 2))
    for variable in optimizer.variables:
        variable.assign(tf.zeros_like(variable) if variable is not optimizer._learning_rate else variable)
    table.assign(start)
    reference = NumpyLazyAdam(start, rate=0.05, decay=0.3)
    for rows in steps:
        values = rng.normal(size=(7, 2))
        update(tf.constant(rows, tf.int32), tf.constant(values))
        reference.step(rows, values)
    for received, expected in zip(state(optimizer, table), (reference.w, reference.m, reference.v), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-10, atol=1e-12)
    untouched = [r for r in range(size) if not any(r in rows for rows in steps)]
    np.testing.assert_array_equal(table.numpy()[untouched], start[untouched])


@pytest.mark.parametrize("support_width,shape", [(None, {}), (8, {"tasks": 4, "query": 3})])
def test_only_a_step_that_is_not_compiled_looks_for_distinct_rows_of_small_tables(support_width, shape):
    recommender = build_recommender(without_lists(), model={"name": "embedding", "use_item_id": False})
    optimizer = build_optimizer(OptimizerConfig(), schedule=LearningRate(OptimizerConfig(), total_steps=9),
                                variables=recommender.trainable_variables, exempt=[])
    step = OuterStep(recommender, optimizer=optimizer, tables=tables(), clip_norm=None, dropout=0.0, seed=4,
                     support_width=support_width)
    graph = step.function(**shape).get_concrete_function().graph.as_graph_def()
    kinds = {n.op for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for n in nodes}
    assert ("Unique" in kinds) == (support_width is None)


def make_step(name, *, model="two_tower", scope="user_vector", decay=0.1, clip_norm=0.5, spec=None,
              support_width=None):
    recommender = build_recommender(spec or make_spec(),
                                    model={"name": model, "embedding_dim": 4, "use_item_id": spec is None},
                                    learner={"scope": scope, "inner_steps": 1})
    randomise(recommender)
    config = OptimizerConfig(name=name, learning_rate=0.1, weight_decay=decay)
    optimizer = build_optimizer(config, schedule=LearningRate(config, total_steps=9),
                                variables=recommender.trainable_variables, exempt=exempt_from_decay(recommender))
    return recommender, optimizer, OuterStep(recommender, optimizer=optimizer, tables=tables(), clip_norm=clip_norm,
                                             dropout=0.5, seed=4, support_width=support_width)


def embedding_tables(recommender):
    return [v for v in recommender.trainable_variables if "embedding" in v.path.rsplit("/", 1)[-1]]


@pytest.mark.parametrize("model,scope", [s if s[1] != "all" else pytest.param(*s, marks=pytest.mark.slow)
                                         for s in MODEL_SCOPES])
def test_an_outer_step_moves_the_rows_it_read_as_dense_adam_would(model, scope):
    recommender, _, step = make_step("adam", model=model, scope=scope)
    plain, lazy, _ = make_step("adam", model=model, scope=scope)
    dense = keras.optimizers.Adam(lazy._learning_rate, weight_decay=0.1)
    dense.exclude_from_weight_decay(var_list=exempt_from_decay(plain))
    dense.build(plain.trainable_variables)
    plain_step = OuterStep(plain, optimizer=dense, tables=tables(), clip_norm=0.5, dropout=0.5, seed=4)
    before = {v.path: v.numpy() for v in recommender.trainable_variables}
    step(indexed())
    plain_step(indexed())
    untouched = 0
    for ours, theirs in zip(recommender.trainable_variables, plain.trainable_variables, strict=True):
        expected = theirs.numpy()
        if any(ours is table for table in embedding_tables(recommender)):
            moved = (ours.numpy() != before[ours.path]).any(axis=1)
            assert moved.any()
            untouched += (~moved).sum()
            # At the first step rows that were not read differ in the decay alone.
            expected[~moved] = before[ours.path][~moved]
        # A gradient near zero may have either sign by rounding, and Adam's first step is the sign.
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-4, err_msg=ours.path)
    assert untouched > 5
    assert len(embedding_tables(recommender)) == 3


def concrete_graphs(step, shape) -> list:
    """The graph of the step and those of the functions it calls, such as the branches of its condition."""
    found = [step.function(**shape).get_concrete_function().graph]
    for graph in found:
        inner = [getattr(f, "graph", None) for f in graph._functions.values()]
        found += [g for g in inner if g is not None and not any(g is known for known in found)]
    assert len(found) >= 3
    return found


def table_operations(step, variables, **shape) -> tuple[set, set, int]:
    """Looks for work on whole tables.

    Args:
      step: whose graph is searched.
      variables: the tables, and the optimizer's variables of their shapes.
      **shape: numbers of tasks and query rows of a compiled step.

    Returns:
      kinds of operations that make a tensor of a table's shape, kinds that take a table, number of Unique.
    """
    made, taking, unique = set(), set(), 0
    shapes = {tuple(v.shape) for v in variables}
    outer, places = {id(v.value.handle) for v in variables}, set()
    for graph in concrete_graphs(step, shape):
        # A function sees a table as a placeholder that stands for what its caller passed.
        places |= {(id(graph), inside.name) for outside, inside in graph.captures
                   if id(outside) in outer or (hasattr(outside, "graph") and
                                               (id(outside.graph), outside.name) in places)}
        for operation in graph.get_operations():
            unique += operation.type == "Unique"
            made |= {operation.type for t in operation.outputs if t.shape.rank == 2 and tuple(t.shape) in shapes}
            taking |= {operation.type for t in operation.inputs if (id(graph), t.name) in places}
    return made, taking, unique


def table_variables(recommender, optimizer):
    found = embedding_tables(recommender)
    shapes = {tuple(v.shape) for v in found}
    assert len(shapes) == 3 and not any(tuple(v.shape) in shapes for v in recommender.trainable_variables
                                        if not any(v is t for t in found))
    return found + [v for v in optimizer.variables if tuple(v.shape) in shapes]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_no_operation_of_the_step_makes_a_tensor_of_a_tables_size(name):
    recommender, optimizer, step = make_step(name, decay=0.0 if name == "sgd" else 0.1)
    made, taking, unique = table_operations(step, table_variables(recommender, optimizer))
    assert made == set()
    assert taking - {"If", "PartitionedCall", "StatefulPartitionedCall"} == {
        "ResourceGather", "ResourceScatterSub" if name == "sgd" else "ResourceScatterUpdate"}
    # The batch's items, the values of lists, and each of the three tables' gradients once.
    assert unique == 1 + 1 + 3


def test_a_compiled_step_makes_no_tensor_of_the_size_of_a_table_of_which_it_reads_little():
    spec = without_lists()
    kind = dataclasses.replace(spec.item_features[0], vocabulary=tuple(f"k{i}" for i in range(300)))
    spec = dataclasses.replace(spec, item_features=(kind, *spec.item_features[1:]))
    recommender, optimizer, step = make_step("adam", model="embedding", scope="head", spec=spec, support_width=8)
    shape = next(v.shape for v in embedding_tables(recommender) if v.shape[0] >= 300)
    variables = [v for v in (*recommender.trainable_variables, *optimizer.variables) if v.shape == shape]
    assert len(variables) == 3
    made, taking, unique = table_operations(step, variables, tasks=4, query=3)
    assert made == set() and {"ResourceGather", "ResourceScatterUpdate"} <= taking and unique == 0


def test_the_check_for_tensors_of_a_tables_size_finds_them():
    recommender, optimizer, step = make_step("rmsprop", decay=0.0)
    made, taking, _ = table_operations(step, table_variables(recommender, optimizer))
    assert {"ReadVariableOp", "UnsortedSegmentSum"} <= made and "AssignSubVariableOp" in taking


@pytest.mark.parametrize("support_width", [None, 8])
def test_a_failed_step_leaves_weights_moments_and_count_alone(support_width):
    recommender, optimizer, step = make_step("adam", model="embedding", scope="head", spec=without_lists(),
                                             support_width=support_width)
    step(indexed())
    variables = (*optimizer.variables, *recommender.trainable_variables)
    before = [v.numpy() for v in variables]
    step(indexed()._replace(query_label=indexed().query_label * float("nan")))
    assert int(step.failed_step) == 1
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
