"""What holds for every learner, whatever it does; that exports score as it does is `test_every_path`'s."""

import importlib
import inspect
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from learner_cases import CASES, Family, build, encode, perturb, scores, task_loss, train
from recommender_cases import make_batch

from tfmeta.learners.task_tensors import Query
from tfmeta.models.fast_weights import materialise
from tfmeta.models.recommender import LEARNERS, Recommender

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TASKS = 2000
# Each learner's first case is in the fast suite, its further ones are in the slow one.
PARAMS = [pytest.param(case, id=case.id, marks=() if CASES[index - 1].algorithm != case.algorithm
                       else pytest.mark.slow) for index, case in enumerate(CASES)]


@pytest.fixture(scope="module", params=PARAMS)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def recommender(case):
    built = build(case)
    perturb(built, keep=case.keep)
    return built


@pytest.fixture(scope="module")
def batch(case):
    return make_batch(unit=case.unit)


@pytest.fixture(scope="module")
def graph(recommender, batch):
    """`scores` as one graph for batches of any size, traced once."""
    def free(tensor, axes):
        return tf.TensorSpec([None] * axes + tensor.shape[axes:], tensor.dtype)

    lengths = {"support_length", "query_length"}
    signature = type(batch)(**{name: tf.nest.map_structure(
        lambda t, axes=1 if name == "user" or name in lengths else 2: free(t, axes), part)
        for name, part in batch._asdict().items()})
    return tf.function(lambda b: scores(recommender, b), input_signature=[signature], autograph=False)


def on_rows(batch, change):
    """Changes every tensor of the support that has a row per interaction."""
    return batch._replace(support_item={k: change(v) for k, v in batch.support_item.items()},
                          support_label=change(batch.support_label))


def test_every_learner_has_a_case():
    assert {c.name for c in CASES} == set(LEARNERS)
    assert {c.algorithm for c in CASES} == {*LEARNERS, "first_order_maml"}
    assert len({c.id for c in CASES}) == len(CASES)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_docstring_has_equation_source_and_deviations(name):
    module, _, attribute = LEARNERS[name].partition(":")
    text = inspect.getdoc(getattr(importlib.import_module(module), attribute)).partition("Args:")[0]
    equations = [line for line in text.splitlines() if re.match(r" {4}\S.* (=|<-|~) ", line)]
    assert equations, "an indented equation"
    assert re.search(r"\bSources?:|\bAfter [A-Z]", text) and re.search(r"section|equation|algorithm", text), text
    assert re.search(r"\b(19|20)\d\d\b", text) and re.search(r"Deviations\b.*:", text), text


def test_a_support_changes_the_scores_eagerly_and_in_a_graph(case, recommender, batch, graph):
    adapted, base = scores(recommender, batch)
    assert np.isfinite(adapted).all()
    for inside, outside in zip(graph(batch), (adapted, base), strict=True):
        np.testing.assert_allclose(inside, outside, rtol=1e-5, atol=1e-5)
    if case.adapts:
        assert np.abs(adapted - base).max(axis=1).min() > 1e-5
    else:
        np.testing.assert_array_equal(adapted, base)


def test_empty_support_is_unadapted_bit_for_bit(recommender, batch):
    adapted, base = scores(recommender, batch._replace(support_length=tf.zeros(5, tf.int32)))
    np.testing.assert_array_equal(adapted, base)


def test_the_learner_itself_leaves_an_empty_support_alone(recommender, batch):
    """Without the recommender's own guard."""
    inputs = encode(recommender, batch._replace(support_length=tf.zeros(5, tf.int32)))
    query = inputs.pop("query_item")
    fast = recommender.adapt(**inputs)
    output = recommender.learner.predict(fast, Query(user=inputs["user"], item=query)).output
    base = recommender.learner.predict(recommender.learner.init(inputs["user"]), Query(inputs["user"], query)).output
    np.testing.assert_allclose(output, base, rtol=1e-5, atol=1e-5)


def test_zero_steps_is_unadapted_bit_for_bit(case, batch):
    if case.still is None:
        pytest.skip("the learner has no number of steps")
    built = build(case, **case.still)
    perturb(built, keep=case.keep)
    adapted, base = scores(built, batch)
    np.testing.assert_array_equal(adapted, base)


def test_order_of_the_support_changes_nothing(graph, batch):
    batch = batch._replace(support_length=tf.fill([5], 6))
    order = np.random.default_rng(1).permutation(6)
    turned = on_rows(batch, lambda t: tf.gather(t, order, axis=1))
    np.testing.assert_allclose(graph(turned)[0], graph(batch)[0], rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing(graph, batch):
    mask = tf.sequence_mask(batch.support_length, 6).numpy()

    def spoil(tensor):
        width = mask.reshape(mask.shape + (1,) * (tensor.shape.rank - 2))
        return tf.where(width, tensor, np.nan if tensor.dtype.is_floating else 1)

    clean = graph(batch)[0]
    np.testing.assert_array_equal(graph(on_rows(batch, spoil))[0], clean)
    # Products of another width may sum in another order.
    wider = on_rows(batch, lambda t: tf.concat([t, t], 1))
    np.testing.assert_allclose(graph(wider)[0], clean, rtol=1e-5, atol=1e-5)


def test_padding_has_no_gradient(recommender, batch):
    variables = recommender.trainable_variables

    def gradients(batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(task_loss(recommender, batch, 0.5))
        return [np.zeros(1) if g is None else tf.convert_to_tensor(g).numpy()
                for g in tape.gradient(loss, [v.value for v in variables])]

    support, query = tf.sequence_mask(batch.support_length, 6), tf.sequence_mask(batch.query_length, 4)
    dirty = batch._replace(support_label=tf.where(support, batch.support_label, np.nan),
                           query_label=tf.where(query, batch.query_label, np.nan))
    for clean, spoilt in zip(gradients(batch), gradients(dirty), strict=True):
        np.testing.assert_array_equal(clean, spoilt)


def test_tasks_do_not_see_each_other(graph, batch):
    whole = graph(batch)[0].numpy()
    for row in range(5):
        alone = graph(tf.nest.map_structure(lambda t, row=row: t[row:row + 1], batch))[0].numpy()
        np.testing.assert_allclose(alone[0], whole[row], rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_slow_weight(case, recommender):
    batch = make_batch(tasks=16, unit=case.unit)
    variables = recommender.trainable_variables
    reached = dict.fromkeys([v.path for v in variables], 0.0)
    for progress in (0.0, 1.0):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(task_loss(recommender, batch, progress))
        for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True):
            if gradient is not None:
                gradient = tf.convert_to_tensor(gradient).numpy()
                assert np.isfinite(gradient).all(), variable.path
                reached[variable.path] += np.abs(gradient).sum()
    without = [path for path, total in reached.items() if not total]
    assert [p for p in without if not any(part in p for part in case.no_gradient)] == []
    assert [part for part in case.no_gradient if not any(part in p for p in without)] == []


def test_the_adapted_graph_has_no_python_no_state_and_no_chance(graph):
    traced = graph.get_concrete_function().graph
    kinds = {op.type for op in traced.get_operations()}
    kinds |= {node.op for f in traced.as_graph_def().library.function for node in f.node_def}
    assert not [k for k in kinds if "Assign" in k or "Random" in k or "PyFunc" in k]


def test_fast_weights_are_one_tensor_a_user(recommender, batch):
    """So that they can be written flat into a user's state."""
    inputs = encode(recommender, batch)
    inputs.pop("query_item")
    adapted = recommender.adapt(**inputs)
    wider = recommender.adapt(**{**inputs, "support_item": tf.concat([inputs["support_item"]] * 2, 1),
                                 "support_label": tf.concat([inputs["support_label"]] * 2, 1)})
    start = recommender.learner.init(inputs["user"])
    shapes = [{k: v.shape for k, v in materialise(fast, tasks=tf.constant(5)).items()}
              for fast in (start, adapted, wider)]
    assert shapes[0] == shapes[1] == shapes[2]
    assert all(shape[0] == 5 and shape.is_fully_defined() for shape in shapes[0].values())


def test_config_round_trip(recommender, batch):
    config = json.loads(json.dumps(recommender.get_config()))
    again = Recommender.from_config(config)
    assert again.get_config() == recommender.get_config()
    assert [v.path for v in again.variables] == [v.path for v in recommender.variables]
    again.set_weights(recommender.get_weights())
    np.testing.assert_array_equal(scores(again, batch)[0], scores(recommender, batch)[0])


@pytest.mark.parametrize("case", PARAMS)
def test_twenty_interactions_are_better_than_one(case):
    """Averaged over 2,000 tasks of a family with a known optimum, after a short meta-training."""
    family = Family(case.unit)
    trained = build(case, family.spec)
    train(trained, family, steps=case.steps, rate=case.rate)
    few, many = (family.draw(TASKS, np.random.default_rng(11), length=k) for k in (1, 20))
    at_one, at_twenty = (errors(trained, batch) for batch in (few, many))
    np.testing.assert_array_equal(few.query_label, many.query_label)
    if not case.adapts:
        np.testing.assert_array_equal(at_one, at_twenty)
        return
    gain = at_one - at_twenty
    assert gain.mean() > 3 * gain.std() / np.sqrt(TASKS)
    if case.unit == "rating":
        best = np.square(family.optimum(many) - many.query_label).mean()
        assert at_twenty.mean() > 0.97 * best  # nothing beats the optimum unless it has seen the query


def errors(recommender, batch):
    """Each task's squared error, or its share of wrongly ordered pairs for implicit feedback."""
    adapted, label = (t.numpy().astype(np.float64) for t in (scores(recommender, batch)[0], batch.query_label))
    if recommender.feature_spec.label.unit == "rating":
        return np.square(adapted - label).mean(axis=1)
    pairs = label[:, :, None] > label[:, None, :]
    wrong = (adapted[:, :, None] < adapted[:, None, :]) + 0.5 * (adapted[:, :, None] == adapted[:, None, :])
    return (wrong * pairs).sum(axis=(1, 2)) / np.maximum(pairs.sum(axis=(1, 2)), 1)
