"""`explain` against leaving out one row after the other."""

import numpy as np
import pytest
from export_cases import BOUND
from list_cases import EMBEDDING, LISTS, TWO_TOWER, concrete, eager, make, make_context, make_inputs

from export.signatures import adapt_and_score, explain

GRADIENT = ("maml", "maml-cosine", "cavia", "maml-all", "maml-head", "meta_emb")
EXACT = tuple(name for name in LISTS if name not in GRADIENT)


def some_slow(names, *slow):
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in names]


def real_influence(context, inputs):
    """The served score minus that without each row `[B, Q, S]`: a row without a usable label is never seen."""
    run = eager(adapt_and_score, context)
    full, columns = run(inputs)["scores"], []
    for row in range(inputs["support_label"].shape[1]):
        without = {**inputs, "support_label": inputs["support_label"].copy()}
        without["support_label"][:, row] = np.nan
        columns.append(full - run(without)["scores"])
    return np.stack(columns, axis=-1)


def build(learner, *, model=None, unit="rating", seed=0, rate=None):
    LISTS["custom"] = (learner, model or TWO_TOWER, unit)
    try:
        recommender = make("custom", seed=seed)
    finally:
        del LISTS["custom"]
    if rate is not None:
        for variable in recommender.variables:
            if "log_inner_rate" in variable.path:
                variable.assign(np.full(variable.shape, np.log(rate)))
    return recommender


@pytest.mark.parametrize("name", some_slow(EXACT, "tanp", "ordinal-embedding", "ridge-click"))
def test_exact_influence_is_leave_one_out(float64, name):
    """Of lengths 0 to all, with dropped labels and more rows than the bound."""
    from export.influence.influence import Influence

    recommender = make(name)
    context = make_context(recommender)
    assert Influence(recommender, support_bound=BOUND).exact
    assert Influence(recommender, support_bound=BOUND).method == (
        "down_dating" if name in ("ridge", "ordinal_ridge", "ordinal-embedding", "bayesian") else "leave_one_out")
    inputs = make_inputs(recommender, width=BOUND + 1)
    inputs["support_length"] = np.array([BOUND, 5, 1, 0], np.int32)
    inputs["support_label"][1, 2] = np.nan
    outputs = (concrete if name == "ordinal_ridge" else eager)(explain, context)(inputs)
    real = real_influence(context, inputs)
    np.testing.assert_allclose(outputs["influence"], real, rtol=1e-5, atol=2e-7)
    assert outputs["status"].tolist() == [0, 1, 0, 0]
    assert not outputs["influence"][3].any() and not outputs["influence"][1, :, 2].any()
    if name != "joint":
        assert (np.abs(outputs["influence"][0, :, :BOUND]).max(axis=0) > 1e-6).all()
    expected = eager(adapt_and_score, context)(inputs)
    for key in ("scores", "base_scores", "status"):
        np.testing.assert_allclose(outputs[key], expected[key], rtol=1e-7)
    # The only row of a support has the whole move.
    np.testing.assert_allclose(outputs["influence"][2, :, 0], expected["scores"][2] - expected["base_scores"][2],
                               rtol=1e-5, atol=2e-7)


def test_beyond_the_bound_nothing_counts(float64):
    recommender = make("ridge")
    context = make_context(recommender)
    inputs = make_inputs(recommender, width=BOUND + 4, length=BOUND + 3)
    inputs["support_label"][0, BOUND] = np.inf
    influence = eager(explain, context)(inputs)["influence"]
    assert not influence[0, :, :2].any() and not influence[0, :, BOUND].any() and not influence[1:, :, :3].any()
    assert (influence[0, :, 2:BOUND] != 0).all() and (influence[1:, :, 3:BOUND + 3] != 0).all()
    assert not influence[..., BOUND + 3].any()
    # What is further back takes a row's place, so that only the kept ones are compared.
    last = {**inputs, **{k: v[1:, 3:BOUND + 3] if v.ndim > 1 else v[1:] for k, v in inputs.items()
                         if k.startswith("support_")}}
    last = {k: v[1:] if not k.startswith("support_") else v for k, v in last.items()}
    last["support_length"] = np.full(3, BOUND, np.int32)
    np.testing.assert_allclose(influence[1:, :, 3:BOUND + 3], real_influence(context, last), rtol=1e-5, atol=2e-7)


LEARNERS = {
    "maml": ({"name": "maml", "scope": "user_vector"}, TWO_TOWER, "rating"),
    "maml-click-shrinkage": ({"name": "maml", "scope": "user_vector", "shrinkage": 3.0}, TWO_TOWER, "click"),
    "maml-per-element": ({"name": "maml", "scope": "head", "learn_rates": "per_element"}, EMBEDDING, "rating"),
    "maml-clip": ({"name": "maml", "scope": "user_vector", "clip_norm": 1.0}, TWO_TOWER, "rating"),
    "maml_plus_plus": ({"name": "maml_plus_plus", "scope": "head", "inner_steps": 3}, EMBEDDING, "rating"),
    "cavia": ({"name": "cavia"}, EMBEDDING, "rating"),
    "low_rank": ({"name": "low_rank", "inner_steps": 2}, TWO_TOWER, "rating"),
    "mamo": ({"name": "mamo", "memories": 3, "preference_dim": 4, "units": [4]}, TWO_TOWER, "rating"),
    "meta_emb": ({"name": "meta_emb", "inner_steps": 2}, TWO_TOWER, "rating"),
}


@pytest.mark.parametrize("name", some_slow(
    LEARNERS, "maml", "maml-per-element", "maml_plus_plus", "cavia", "low_rank", "mamo"))
def test_at_small_rates_first_order_is_leave_one_out(float64, name):
    """What is left out is of second order: at a tenth of the rate it is a tenth of the influence, or less."""
    from export.influence.influence import Influence

    errors = []
    # A rate of its own for each element, and a product of two that adapt, move outputs further at the same rate.
    for rate in (1e-4, 1e-5) if name in ("maml-per-element", "low_rank") else (1e-3, 1e-4):
        recommender = build(*LEARNERS[name][:1], model=LEARNERS[name][1], unit=LEARNERS[name][2], rate=rate)
        assert Influence(recommender, support_bound=BOUND).method == "held_path"
        context = make_context(recommender)
        inputs = make_inputs(recommender, batch=3)
        found, real = eager(explain, context)(inputs)["influence"], real_influence(context, inputs)
        errors.append(np.abs(found - real).max() / np.abs(real).max())
    assert errors[1] < 2e-3 and errors[1] < 0.2 * errors[0] + 1e-5, errors


@pytest.mark.parametrize(("name", "rate", "least"), [
    ("maml", 0.03, (0.9, 0.95)), ("maml", 0.1, (0.75, 0.85)),
    pytest.param("maml-head", 0.03, (0.85, 0.93), marks=pytest.mark.slow),
    pytest.param("maml-head", 0.1, (0.6, 0.75), marks=pytest.mark.slow)])
def test_at_usual_rates_it_orders_rows_as_leave_one_out_does(float64, name, rate, least):
    """Five steps, 0.1 being the default rate: rank correlation within each candidate, and signs, of 20 users."""
    from scipy.stats import spearmanr

    model, scope = (EMBEDDING, "head") if name == "maml-head" else (TWO_TOWER, "user_vector")
    recommender = build({"name": "maml", "scope": scope}, model=model, rate=rate)
    context = make_context(recommender)
    inputs = make_inputs(recommender, batch=20, width=8, length=8)
    found, real = eager(explain, context)(inputs)["influence"], real_influence(context, inputs)
    flat = found.reshape(-1, 8), real.reshape(-1, 8)
    correlation = np.mean([spearmanr(a, b).statistic for a, b in zip(*flat, strict=True)])
    noticeable = np.abs(real) > 0.1 * np.abs(real).max(axis=-1, keepdims=True)
    agreement = np.mean((np.sign(found) == np.sign(real))[noticeable])
    assert correlation > least[0] and agreement > least[1], (correlation, agreement)


@pytest.mark.parametrize("learner", [
    {"name": "meta_sgd", "scope": "user_vector"},
    {"name": "maml", "scope": "user_vector", "inner_steps": 1, "clip_norm": 0.5, "shrinkage": 2.0},
    {"name": "fine_tune", "scope": "all", "inner_steps": 1, "clip_norm": 0.5, "shrinkage": 2.0},
    {"name": "maml", "scope": "user_vector", "inner_steps": 3, "inner_loss": "pairwise"}])
def test_one_step_and_losses_of_pairs_are_exact(float64, learner):
    from export.influence.influence import Influence

    recommender = build(learner)
    context = make_context(recommender)
    inputs = make_inputs(recommender)
    assert Influence(recommender, support_bound=BOUND).exact == ("inner_loss" in learner)
    np.testing.assert_allclose(eager(explain, context)(inputs)["influence"], real_influence(context, inputs), rtol=1e-5,
                               atol=2e-7)


@pytest.mark.parametrize("shrinkage", [0.0, 4.0])
def test_sum_rule(float64, shrinkage):
    """Linear scores, no clipping: n rows share n (s(n) - s(n - 1)) / s(n) of the move."""
    recommender = build({"name": "maml", "scope": "user_vector", "shrinkage": shrinkage}, rate=0.05)
    inputs = make_inputs(recommender)
    inputs["support_length"] = np.array([1, 2, 4, 5], np.int32)
    outputs = eager(explain, make_context(recommender))(inputs)
    n = inputs["support_length"].astype(float)[:, None]
    share = np.where(n > 1, 0.0, 1.0) if not shrinkage else shrinkage / (n - 1 + shrinkage)
    np.testing.assert_allclose(outputs["influence"].sum(axis=-1), share * (outputs["scores"] - outputs["base_scores"]),
                               rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", some_slow(
    ("ordinal_ridge", "maml-head", "bayesian-click", "tanp"), "maml-head", "tanp"))
def test_order_padding_and_chunks_change_nothing(float64, name):
    import tensorflow as tf

    from export.influence.influence import Influence
    from tfmeta.models.encoded_widths import encoded_widths

    recommender = make(name)
    context = make_context(recommender)
    inputs = make_inputs(recommender, length=5)
    influence = eager(explain, context)(inputs)["influence"]
    order = np.array([3, 0, 4, 2, 1])
    turned = {k: v[:, order] if k.startswith("support_") and v.ndim > 1 else v for k, v in inputs.items()}
    received = eager(explain, context)(turned)["influence"]
    np.testing.assert_allclose(received, influence[:, :, order], rtol=1e-5, atol=1e-6)
    padded = {k: np.concatenate([v, v[:, :2]], 1) if k.startswith("support_") and v.ndim > 1 else v
              for k, v in inputs.items()}
    padded["support_label"][:, 5:] = np.nan
    wider = eager(explain, context)(padded)
    np.testing.assert_allclose(wider["influence"][..., :5], influence, rtol=1e-5, atol=1e-6)
    assert not wider["influence"][..., 5:].any() and not wider["status"].any()

    rng = np.random.default_rng(0)
    width, item = encoded_widths(recommender.model)
    user = tf.constant(rng.normal(size=(3, width)))
    request = {"support_item": tf.constant(rng.normal(size=(3, 4, item))), "support_length": tf.constant([4, 1, 0]),
               "support_label": tf.constant(rng.integers(0, 2, (3, 4)), tf.float64),
               "query_item": tf.constant(rng.normal(size=(3, 2, item)))}
    scores, base = recommender.adapt_and_score(user, **request)
    found = [Influence(recommender, support_bound=4, at_once=size)(user, scores=scores, base=base, **request)
             for size in (1, 3, None)]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["maml", "maml-all", "ridge", "bayesian-click", "lwa"])
def test_nothing_is_ever_not_finite(name):
    """Adaptation that leaves the floats, labels at both ends, candidates and rows that nobody knows."""
    recommender = make(name)
    for variable in recommender.variables:
        if "rate" in variable.path:
            variable.assign(np.full(variable.shape, 60.0, np.float32))
    inputs = make_inputs(recommender)
    inputs["support_label"][0] = [3e38, -3e38, 0, 1e-40, np.nan]
    inputs["support_movie_id"][1, :] = "nobody"
    inputs["support_length"] = np.array([5, 5, -3, 99], np.int32)
    outputs = eager(explain, make_context(recommender))(inputs)
    assert all(np.isfinite(outputs[key]).all() for key in ("influence", "scores", "base_scores"))
    assert outputs["status"].tolist() == [1, 0, 8, 8]
    assert not outputs["influence"][2].any()


def test_down_dating_with_rows_that_decide_alone(float64):
    """Leverages of almost 1, a thousand times the prior's precision, and equal rows."""
    import tensorflow as tf

    from export.influence.down_dating import output_changes
    from tfmeta.learners.linear_system import LinearSystem

    rng = np.random.default_rng(0)
    rows, target, query = rng.normal(size=(2, 6, 3)), rng.normal(size=(2, 6)), rng.normal(size=(2, 4, 3))
    rows[0, 0] *= 1e3
    rows[1, 1] = rows[1, 0]
    rows[:, 5], target[:, 5] = 0, 0
    shift, without = rng.normal(size=(2, 3)), rng.normal(size=(2, 6, 3))
    without[:, 5] = shift
    for extra in ({}, {"shift": tf.constant(shift), "shift_without": tf.constant(without)}):
        system = LinearSystem(prior=tf.zeros([2, 3], tf.float64), rows=tf.constant(rows), target=tf.constant(target),
                              whiten=lambda x: x, **extra)
        moved, changes = output_changes(system, tf.constant(query))

        def solve(i, used, g, y=target):
            f = rows[i, used]
            return query[i] @ np.linalg.solve(np.eye(3) + f.T @ f, f.T @ y[i, used] + g)

        for i in range(2):
            whole = solve(i, slice(None), shift[i] if extra else 0)
            np.testing.assert_allclose(moved[i], whole, rtol=1e-8)
            for row in range(6):
                kept = [j for j in range(6) if j != row]
                expected = whole - solve(i, kept, without[i, row] if extra else 0)
                np.testing.assert_allclose(changes[i, :, row], expected, rtol=1e-6, atol=1e-8)
