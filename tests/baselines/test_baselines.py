"""Closed forms, invariances and edge cases of the baselines."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tiny_data

from tfmeta.baselines import BASELINES, build_baseline
from tfmeta.baselines.biases import Biases
from tfmeta.baselines.content_matrix import content_matrix
from tfmeta.baselines.tuning import BUDGET, tune
from tfmeta.data.feature import Feature
from tfmeta.errors import ConfigError, DataError

FAST = {"als_fold_in": {"factors": 3, "sweeps": 4}, "als_implicit": {"factors": 3, "sweeps": 2},
        "two_tower_tfrs": {"epochs": 2, "vector_dim": 4, "embedding_dim": 3, "units": 5, "batch_rows": 40}}


@pytest.fixture(scope="module")
def prepared():
    return tiny_data.make_prepared()


@pytest.fixture(scope="module")
def fitted(prepared):
    return {name: build_baseline(name, **FAST.get(name, {})).fit(prepared) for name in BASELINES}


@pytest.mark.parametrize("name", BASELINES)
def test_scores_are_finite_for_cold_unknown_and_empty(name, fitted):
    tasks = tiny_data.make_tasks(np.random.default_rng(1), items=tiny_data.ITEMS)
    tasks.query_item[0] = -1
    score = fitted[name].score(tasks)
    assert score.shape == tasks.query_item.shape and score.dtype == np.float64
    assert np.isfinite(score).all()
    assert np.isfinite(fitted[name].score(tasks.truncate(0))).all()


@pytest.mark.parametrize("name", [n for n in BASELINES if n != "random"])
def test_order_and_padding_of_the_support_do_not_matter(name, fitted):
    rng = np.random.default_rng(2)
    tasks = tiny_data.make_tasks(rng, items=tiny_data.ITEMS)
    score = fitted[name].score(tasks)
    real = tasks.support_item >= 0
    order = np.argsort(np.where(real, rng.random(real.shape), 2.0), axis=1)
    shuffled = dataclasses.replace(
        tasks, support_item=np.take_along_axis(tasks.support_item, order, 1),
        support_label=np.take_along_axis(tasks.support_label, order, 1))
    np.testing.assert_allclose(fitted[name].score(shuffled), score, rtol=1e-12, atol=1e-12)
    for item, label in ((-1, np.nan), (3, 1e9)):
        wide = dataclasses.replace(
            tasks, support_item=np.pad(np.where(real, tasks.support_item, item), ((0, 0), (0, 3)),
                                       constant_values=item),
            support_label=np.pad(np.where(real, tasks.support_label, label), ((0, 0), (0, 3)),
                                 constant_values=label).astype(np.float32))
        np.testing.assert_allclose(fitted[name].score(wide), score, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BASELINES)
def test_declared_use_of_the_support_and_blindness_to_query_labels(name, fitted):
    tasks = tiny_data.make_tasks(np.random.default_rng(3), low_support=2)
    score = fitted[name].score(tasks)
    blind = dataclasses.replace(tasks, query_label=np.full_like(tasks.query_label, np.nan))
    np.testing.assert_array_equal(fitted[name].score(blind), score)
    same = np.array_equal(fitted[name].score(tasks.truncate(0)), score)
    assert same == (not fitted[name].uses_support)


@pytest.mark.parametrize("name", BASELINES)
def test_fitting_reads_no_tasks(name):
    prepared = tiny_data.make_prepared()

    def refuse(part):
        raise AssertionError(f"asked for {part} tasks")

    prepared.tasks = refuse
    build_baseline(name, **FAST.get(name, {})).fit(prepared)


def test_biases_solve_their_own_normal_equations(prepared):
    train = prepared.train
    biases = Biases.fit(train, num_users=30, num_items=16, item_damping=2.0, user_damping=3.0, sweeps=400)
    design = np.zeros((len(train), 46))
    design[np.arange(len(train)), train.user_row] = 1
    design[np.arange(len(train)), 30 + train.item_row] = 1
    ridge = np.diag(np.r_[np.full(30, 3.0), np.full(16, 2.0)])
    exact = np.linalg.solve(design.T @ design + ridge, design.T @ (train.label.astype(float) - biases.mean))
    np.testing.assert_allclose(np.r_[biases.user_bias, biases.item_bias[:16]], exact, atol=1e-9)


def test_damped_bias_formula_for_a_new_user(prepared):
    model = build_baseline("damped_bias", item_damping=2.0, user_damping=3.0).fit(prepared)
    tasks = tiny_data.make_tasks(np.random.default_rng(4), items=tiny_data.ITEMS)
    got = model.score(tasks)
    for t in range(len(tasks)):
        n = tasks.support_length[t]
        bias = sum(float(y) - model.biases.mean - model.biases.item_bias[i]
                   for i, y in zip(tasks.support_item[t, :n], tasks.support_label[t, :n], strict=True)) / (n + 3.0)
        expected = model.biases.mean + bias + model.biases.item_bias[tasks.query_item[t]]
        np.testing.assert_allclose(got[t], expected, rtol=1e-12)


def test_means_by_hand(prepared):
    train = prepared.train
    item = build_baseline("item_mean", damping=2.0).fit(prepared)
    labels = train.label[train.item_row == 5].astype(float)
    mean = train.label.mean(dtype=np.float64)
    assert item.table[5] == pytest.approx((labels.sum() + 2 * mean) / (len(labels) + 2))
    tasks = tiny_data.make_tasks(np.random.default_rng(5), low_support=3)
    user = build_baseline("user_mean", damping=0.0).fit(prepared)
    np.testing.assert_allclose(user.score(tasks)[:, 0], np.nanmean(tasks.support_label.astype(float), axis=1))
    np.testing.assert_allclose(user.score(tasks.truncate(0)), mean)
    counts = build_baseline("popularity").fit(prepared).score(tasks)
    assert counts[0, 0] == (train.item_row == tasks.query_item[0, 0]).sum()


def test_als_fold_in_equals_a_direct_solve(prepared, fitted):
    model = fitted["als_fold_in"]
    tasks = tiny_data.make_tasks(np.random.default_rng(6), items=tiny_data.ITEMS)
    ridge = np.diag([model.user_damping, *[model.user_ridge] * model.factors])
    got, vectors = model.score(tasks), model.user_vectors(tasks)
    for t in range(len(tasks)):
        n = tasks.support_length[t]
        table = model.item_table[tasks.support_item[t, :n]]
        target = tasks.support_label[t, :n].astype(float) - model.biases.mean \
            - model.biases.item_bias[tasks.support_item[t, :n]]
        vector = np.linalg.solve(table.T @ table + ridge, table.T @ target)
        np.testing.assert_allclose(vectors[t], vector, rtol=1e-9, atol=1e-12)
        query = tasks.query_item[t]
        expected = model.biases.mean + model.biases.item_bias[query] + model.item_table[query] @ vector
        np.testing.assert_allclose(got[t], expected, rtol=1e-9)


def test_als_sweeps_lower_the_objective(prepared):
    train = prepared.train

    def objective(sweeps):
        model = build_baseline("als_fold_in", factors=3, sweeps=sweeps, user_ridge=1.0, item_ridge=1.0).fit(prepared)
        width = np.bincount(train.user_row, minlength=30)
        tasks = _as_tasks(train, width)
        user = model.user_vectors(tasks)
        error = train.label - model.biases.mean - model.biases.item_bias[train.item_row] \
            - (user[train.user_row] * model.item_table[train.item_row]).sum(axis=1)
        return (error**2).sum() + (user[:, 1:]**2).sum() + 5 * (user[:, 0]**2).sum() \
            + (model.item_table[:, 1:]**2).sum()

    values = [objective(s) for s in (1, 2, 5, 15)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.98 * values[0]


def test_als_gives_items_without_training_no_factors(fitted):
    table = fitted["als_fold_in"].item_table
    assert not table[tiny_data.WARM:, 1:].any() and table[:tiny_data.WARM, 1:].any(axis=1).all()


def test_content_ridge_orders_cold_items_by_their_content(prepared):
    model = build_baseline("content_ridge", ridge=0.1, saturation=10.0).fit(prepared)
    bias = model.biases.item_bias[tiny_data.WARM:tiny_data.ITEMS]
    genre = np.arange(tiny_data.WARM, tiny_data.ITEMS) % 3
    assert bias[genre == 2].min() > bias[genre == 1].max() > bias[genre == 0].max()
    assert build_baseline("damped_bias").fit(prepared).biases.item_bias[tiny_data.WARM:].any() == False  # noqa: E712


def test_content_matrix_covers_every_kind():
    frame = pd.DataFrame({
        "c": ["a", "b", ""], "m": [["x", "y"], ["y", ""], ["", ""]], "n": [1.0, np.nan, 3.0],
        "v": [np.array([0.0, 2.0])] * 3, "t": ["the cat sat", "The dog", ""]})
    features = [Feature("c", "categorical", "string", vocabulary=("a", "b")),
                Feature("m", "multi_categorical", "string", 2, ("x", "y")),
                Feature("n", "numeric", "float32", mean=(1.0,), std=(2.0,)),
                Feature("v", "dense_vector", "float32", 2, mean=(0.0, 0.0), std=(1.0, 0.0)),
                Feature("t", "text", "string", 4, hash_buckets=8)]
    got = content_matrix(frame, features, fitted=np.ones(3, bool)).toarray()
    half = np.sqrt(0.5)
    expected = [[1, 0, half, half, 0, 0, 2], [0, 1, 0, 1, 0, 0, 2], [0, 0, 0, 0, 1, 0, 2], [0] * 7]
    np.testing.assert_allclose(got, expected)
    assert content_matrix(frame, [], fitted=np.ones(3, bool)).shape == (4, 0)


def test_words_are_chosen_from_training_items_alone():
    frame = pd.DataFrame({"t": ["space war"] * 6 + ["love war"] * 9})
    text = [Feature("t", "text", "string", 4, hash_buckets=8)]
    got = content_matrix(frame, text, fitted=np.arange(15) < 6).toarray()
    np.testing.assert_allclose(got, [[np.sqrt(0.5)] * 2] * 6 + [[0, 1.0]] * 9 + [[0, 0]])


def test_whole_number_categories_are_matched():
    frame = pd.DataFrame({"year": np.array([1999, -1, 2001], np.int64)})
    years = [Feature("year", "categorical", "int64", vocabulary=(1999, 2001))]
    np.testing.assert_array_equal(content_matrix(frame, years, fitted=np.ones(3, bool)).toarray(),
                                  [[1, 0], [0, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("name", BASELINES)
def test_grids_are_within_budget_and_valid(name):
    grid = BASELINES[name].grid()
    assert 1 <= len(grid) <= BUDGET
    assert len({tuple(sorted(p.items())) for p in grid}) == len(grid)
    for params in grid:
        build_baseline(name, **params)
    assert name in ("random", "popularity") or len(grid) == BUDGET


def test_tuning_keeps_the_best_of_its_trials(prepared):
    result = tune("user_mean", prepared)
    assert result.criterion == "mae" and len(result.trials) == BUDGET
    assert dict(min(result.trials, key=lambda t: t[1])[0]) == result.params
    tasks = prepared.tasks("validation")
    score = build_baseline("user_mean", **result.params).fit(prepared).score(tasks)
    error = np.abs(np.clip(score, 1, 5) - tasks.query_label).mean(axis=1)
    by_state = np.mean([error[tasks.state == s].mean() for s in tasks.states])
    assert min(v for _, v in result.trials) == pytest.approx(by_state, rel=1e-6)
    assert len(tune("user_mean", prepared, budget=3).trials) == 3


def test_mistakes_are_named(prepared):
    with pytest.raises(ConfigError, match="Did you mean 'damped_bias'"):
        build_baseline("damped_bais")
    with pytest.raises(ConfigError, match="user_damping"):
        build_baseline("damped_bias", user_dampin=1.0)
    with pytest.raises(ConfigError, match="at least 0"):
        build_baseline("user_mean", damping=-1.0).fit(prepared)
    prepared = tiny_data.make_prepared()
    empty = prepared.tasks("validation").select(np.zeros(0, int))
    prepared.tasks = lambda part: empty
    with pytest.raises(DataError, match="requires validation tasks"):
        tune("item_mean", prepared)


def test_implicit_data_are_served_by_popularity():
    prepared = tiny_data.make_prepared(unit="click")
    assert tune("popularity", prepared).criterion == "auc"
    for name in BASELINES:
        score = build_baseline(name, **FAST.get(name, {})).fit(prepared).score(prepared.tasks("validation"))
        assert np.isfinite(score).all()


def _as_tasks(train, width):
    """All training interactions of each user as a support."""
    support = np.full((len(width), width.max()), -1, np.int32)
    label = np.full(support.shape, np.nan, np.float32)
    real = np.arange(support.shape[1])[None, :] < width[:, None]
    support[real], label[real] = train.item_row, train.label
    tasks = tiny_data.make_tasks(np.random.default_rng(0), count=len(width))
    return dataclasses.replace(tasks, support_item=support, support_label=label, support_length=width.astype(np.int32))
