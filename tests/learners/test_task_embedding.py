"""MetaEmb and MWUF against their papers' equations, worked out with numpy in float64."""

import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import make_batch, make_spec, randomise

from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ConfigError
from tfmeta.learners.task_embedding import NAME, TaskEmbedding
from tfmeta.learners.task_tensors import Query, Support
from tfmeta.models.recommender import build_recommender

TOWER = {"name": "two_tower", "vector_dim": 2, "embedding_dim": 2, "user_units": [2], "item_units": [2]}
# Encoded tasks and items [vector, bias]; the second task has one interaction, the third none.
TASK = np.array([[0.5, -1.0, 0.2], [1.0, 0.25, -0.5], [-0.75, 0.5, 0.1]])
SUPPORT = np.array([[[1.0, 2.0, 0.1], [0.5, -1.0, 0.3]], [[-1.0, 0.5, 0.2], [0.0, 0.0, 0.0]],
                    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
TARGET = np.array([[1.0, -0.5], [0.75, 0.0], [0.0, 0.0]])
LENGTH = np.array([2, 1, 0])
QUERY = np.array([[[0.3, 0.7, -0.2], [1.5, 0.0, 0.0]], [[2.0, -1.0, 0.5], [0.1, 0.2, 0.3]],
                  [[1.0, 1.0, 0.0], [0.5, 0.4, 0.3]]])
QUERY_TARGET = np.array([[0.5, 1.0], [-1.0, 0.25], [1.0, 2.0]])
OFFSET = 0.15


def build(name, unit="rating", **options):
    recommender = build_recommender(make_spec(unit), model=TOWER, learner={"name": name, **options}, seed=1)
    randomise(recommender, seed=4)
    recommender.model.offset.assign(OFFSET)
    return recommender.learner


def constant(*arrays):
    return [tf.constant(a, tf.int32 if a.dtype.kind == "i" else tf.float32) for a in arrays]


def sets():
    user, item, target, length, query = constant(TASK, SUPPORT, TARGET, LENGTH, QUERY)
    return Support(user=user, item=item, target=target, length=length), Query(user=user, item=query)


def score(task, embedding, item):
    """Two-tower with `task + embedding` as [u, c_u]: u . v + c_u + c_i + c."""
    vector = task + embedding
    return np.einsum("bd,bnd->bn", vector[:, :2], item[..., :2]) + vector[:, 2:] + item[..., 2] + OFFSET


def gradient(task, embedding):
    """Of the mean squared error on the support by the embedding."""
    mask = np.arange(2)[None, :] < LENGTH[:, None]
    residual = (score(task, embedding, SUPPORT) - TARGET) * mask / np.maximum(LENGTH, 1)[:, None]
    by_vector = 2 * np.einsum("bn,bnd->bd", residual, SUPPORT[..., :2])
    return np.concatenate([by_vector, 2 * residual.sum(axis=1, keepdims=True)], axis=1)


def support_loss(embedding):
    mask = np.arange(2)[None, :] < LENGTH[:, None]
    return (np.square(score(TASK, embedding, SUPPORT) - TARGET) * mask).sum(1) / np.maximum(LENGTH, 1)


def test_the_generator_and_the_step_are_the_papers():
    learner = build("meta_emb", gamma=0.3, inner_learning_rate=0.25, learn_rate=False, inner_steps=1)
    support, query = sets()
    start = 0.3 * np.tanh(TASK @ learner.generator.numpy().astype(np.float64))
    np.testing.assert_allclose(learner.init(support.user)[NAME], start, rtol=1e-5, atol=1e-6)
    moved = start - 0.25 * gradient(TASK, start)
    fast = learner.adapt(learner.init(support.user), support)
    np.testing.assert_allclose(fast[NAME], moved, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(learner.predict(fast, query).output, score(TASK, moved, QUERY), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(moved[2], start[2])


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_the_meta_loss_weighs_cold_and_warm(alpha):
    learner = build("meta_emb", alpha=alpha, gamma=0.3, inner_learning_rate=0.25, learn_rate=False)
    support, query = sets()
    start = 0.3 * np.tanh(TASK @ learner.generator.numpy().astype(np.float64))
    moved = start - 0.25 * gradient(TASK, start)
    warm = np.square(score(TASK, moved, QUERY) - QUERY_TARGET).mean(axis=1)
    loss = learner.task_loss(support, query, target=tf.constant(QUERY_TARGET, tf.float32),
                             length=tf.constant([2, 2, 2]), progress=tf.constant(0.0))
    np.testing.assert_allclose(loss, alpha * support_loss(start) + (1 - alpha) * warm, rtol=1e-5, atol=1e-6)


def test_the_meta_gradient_is_second_order_and_matches_finite_differences():
    """By the generator, through one step: the numpy meta-loss in float64, differenced."""
    learner = build("meta_emb", alpha=0.2, gamma=0.3, inner_learning_rate=0.25, learn_rate=False)
    support, query = sets()
    kernel = learner.generator.numpy().astype(np.float64)

    def meta_loss(kernel):
        start = 0.3 * np.tanh(TASK @ kernel)
        moved = start - 0.25 * gradient(TASK, start)
        warm = np.square(score(TASK, moved, QUERY) - QUERY_TARGET).mean(axis=1)
        return (0.2 * support_loss(start) + 0.8 * warm).sum()

    expected = np.zeros_like(kernel)
    for place in np.ndindex(kernel.shape):
        step = np.zeros_like(kernel)
        step[place] = 1e-6
        expected[place] = (meta_loss(kernel + step) - meta_loss(kernel - step)) / 2e-6

    def by_generator(learner):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(learner.task_loss(support, query, target=tf.constant(QUERY_TARGET, tf.float32),
                                                   length=tf.constant([2, 2, 2]), progress=tf.constant(0.0)))
        return tape.gradient(loss, learner.generator.value).numpy()

    np.testing.assert_allclose(by_generator(learner), expected, rtol=1e-4, atol=1e-5)
    first = build("meta_emb", alpha=0.2, gamma=0.3, inner_learning_rate=0.25, learn_rate=False, first_order=True)
    assert np.abs(by_generator(first) - expected).max() > 1e-2


def test_the_cold_loss_of_implicit_feedback_is_on_the_query():
    """A support of positives alone is fitted best by a model that says yes to everything."""
    learner = build("meta_emb", unit="click", alpha=1.0)
    support, query = sets()
    label = tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    loss = learner.task_loss(support, query, target=label, length=tf.constant([2, 2, 2]), progress=tf.constant(0.0))
    logit = learner.predict(learner.init(support.user), query).output.numpy().astype(np.float64)
    expected = (np.logaddexp(0, logit) - label.numpy() * logit).mean(axis=1)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_warming_up_scales_by_content_and_shifts_by_the_mean_user():
    learner = build("mwuf", units=3, inner_learning_rate=0.25, learn_rate=False, inner_steps=2)
    support, query = sets()

    def network(stack, inputs):
        values = {w.name: w.numpy().astype(np.float64) for w in stack.weights}
        hidden = np.maximum(inputs @ values[f"{stack.name}_0_kernel"] + values[f"{stack.name}_0_bias"], 0)
        return hidden @ values[f"{stack.name}_1_kernel"] + values[f"{stack.name}_1_bias"]

    cold = np.tile(learner.common.numpy().astype(np.float64), (3, 1))
    unadapted = cold * (1 + network(learner.scaling, TASK))
    np.testing.assert_allclose(learner.predict(learner.init(support.user), query).output,
                               score(TASK, unadapted, QUERY), rtol=1e-5, atol=1e-6)
    for _ in range(2):
        cold = cold - 0.25 * gradient(TASK, cold)
    mean = np.stack([SUPPORT[0].mean(axis=0), SUPPORT[1, 0], np.zeros(3)])
    warm = cold * (1 + network(learner.scaling, TASK)) + network(learner.shifting, mean) * (LENGTH > 0)[:, None]
    fast = learner.adapt(learner.init(support.user), support)
    np.testing.assert_allclose(learner.predict(fast, query).output, score(TASK, warm, QUERY), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fast["shift"][2], np.zeros(3))


def test_the_shift_does_not_see_labels():
    learner = build("mwuf")
    support, _ = sets()
    fast = learner.init(support.user)
    other = learner.adapt(fast, support._replace(target=support.target + 1.0))
    same = learner.adapt(fast, support)
    np.testing.assert_array_equal(other["shift"], same["shift"])
    assert np.abs(other[NAME] - same[NAME])[:2].min() > 1e-4


@pytest.mark.parametrize("model,scope", [("two_tower", "user_vector"), ("two_tower", "all"), ("embedding", "head")])
def test_an_embedding_of_zero_is_the_plain_model(model, scope):
    recommender = build_recommender(make_spec(), model={"name": model}, learner={"name": "meta_emb", "scope": scope})
    randomise(recommender)
    batch = make_batch()
    user = recommender.encode_user(batch.user, tasks=tf.constant(5))
    item = recommender.encode_item(batch.query_item)
    output = TaskEmbedding(recommender.model).apply({NAME: tf.zeros_like(user)}, user, item)
    np.testing.assert_array_equal(recommender.to_score(output),
                                  recommender.to_score(recommender.model((batch.user, batch.query_item))))


def test_a_model_without_a_task_representation_is_refused():
    spec = make_spec()
    plain = FeatureSpec(label=spec.label, user_id=spec.user_id, item_id=spec.item_id,
                        item_features=spec.item_features, task_side="item")
    with pytest.raises(ConfigError, match="on data without item features"):
        build_recommender(plain, model={"name": "embedding"}, learner={"name": "meta_emb"})


@pytest.mark.parametrize("name,options,message", [
    ("meta_emb", {"alpha": 1.5}, "learner.alpha"), ("meta_emb", {"gamma": 0.0}, "learner.gamma"),
    ("meta_emb", {"inner_steps": -1}, "learner.inner_steps"), ("mwuf", {"units": 0}, "learner.units"),
    ("mwuf", {"inner_learning_rate": 0.0}, "learner.inner_learning_rate"),
    ("mwuf", {"unitss": 3}, "Did you mean 'units'")])
def test_hyper_parameters_are_checked(name, options, message):
    with pytest.raises(ConfigError, match=message):
        build(name, **options)
