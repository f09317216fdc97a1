"""The peers of `benchmarks.closed_form` compute what the learners' graphs compute."""

import numpy as np
import pytest
import tensorflow as tf
from recommender_cases import randomise

from benchmarks.closed_form import AMORTISED, build, by_numpy, by_tensorflow, check, support_sets
from benchmarks.numpy_learners import by_hand
from tfmeta.learners.linear_head import head_width

LENGTHS = np.array([0, 1, 3, 7], np.int32)


def sets(*, width):
    """Support sets of ratings around the threshold, one without a row and one without padding."""
    user, item, target, _ = support_sets(users=len(LENGTHS), support=LENGTHS.max(), width=width)
    return user, item, 4 + target, LENGTHS


@pytest.fixture(scope="module", params=AMORTISED)
def amortised(request):
    """A learner with random weights, its support sets and a function that adapts to them by the graph."""
    recommender = build(request.param)
    randomise(recommender)
    width = head_width(recommender.model)
    arrays = sets(width=width)
    graph = by_tensorflow(recommender.learner, width=width)
    return recommender.learner, arrays, lambda: graph(*map(tf.constant, arrays))


def test_numpy_gives_the_graphs_fast_weights(amortised):
    learner, arrays, graph = amortised
    before, fast = [a.copy() for a in arrays], graph()
    found = by_hand(learner)(*arrays)
    check(learner.name, fast, found)
    for key, value in fast.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)
        assert found[key].dtype == np.float32
    for now, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_padding_changes_nothing(amortised):
    learner, (user, item, target, length), _ = amortised
    padded, adapt = np.arange(target.shape[1]) >= length[:, None], by_hand(learner)
    other = np.where(padded[..., None], np.float32(9), item), np.where(padded, np.float32(-9), target)
    found = adapt(user, *other, length)
    for key, value in adapt(user, item, target, length).items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)


def test_a_weight_that_is_not_the_graphs_is_found(amortised):
    learner, arrays, graph = amortised
    before, stale, rng, moved = graph(), by_hand(learner), np.random.default_rng(5), 0
    for variable in learner.trainable_variables:
        value = variable.numpy()
        variable.assign(value + rng.normal(scale=0.5, size=value.shape))
        fast = graph()
        check(learner.name, fast, by_hand(learner)(*arrays))
        if max(np.abs(fast[key] - before[key]).max() for key in fast) > 1e-3:
            moved += 1
            with pytest.raises(ValueError, match=f"{learner.name}: the two solutions differ"):
                check(learner.name, fast, stale(*arrays))
        variable.assign(value)
    # All weights but those that only the encoders, the scores or the divergence read, and the biases of keys, which add
    # the same to all logits of a row.
    assert moved == {"lwa": 3, "tanp": 19, "set_encoder": 40}[learner.name]


@pytest.mark.parametrize("name,solver", [("ridge", "gesv"), ("ridge", "posv"), ("bayesian", "inv"),
                                         ("bayesian", "potrf")])
def test_solves_by_lapack_give_the_graphs_fast_weights(name, solver):
    recommender = build(name)
    width = head_width(recommender.model)
    arrays = sets(width=width)
    fast = by_tensorflow(recommender.learner, width=width)(*map(tf.constant, arrays))
    check(name, fast, by_numpy(*arrays, solver=solver, covariance=name == "bayesian"))


def test_another_result_is_refused():
    ours = {"weights": tf.constant([[1.0, 2.0]])}
    check("ridge", ours, {"weights": np.array([[1.0, 2.00005]])})
    for other, words in ((np.array([[1.0, 2.001]]), "differ by 0.00"), (np.array([[1.0, np.nan]]), "differ by nan")):
        with pytest.raises(ValueError, match=f"ridge: the two solutions {words}.* in 'weights'"):
            check("ridge", ours, {"weights": other})
    with pytest.raises(ValueError, match=r"found \['weights'\], the peer \['mean'\]"):
        check("ridge", ours, {"mean": np.array([[1.0, 2.0]])})
