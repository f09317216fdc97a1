"""Item-kNN and implicit factorisation against computations by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tiny_data

from tfmeta.baselines import BASELINES, baselines_for, build_baseline
from tfmeta.baselines.item_similarity import ItemSimilarity
from tfmeta.baselines.positives import support_positives, training_positives
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import ConfigError

CLICK = Label("y", "click", 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def prepared():
    return tiny_data.make_prepared()


def one_task(items, labels, query):
    n = len(items)
    return TaskSet(np.array(["user_cold"]), np.zeros(1, np.int32), np.zeros(1, np.int32),
                   np.array([items or [-1]], np.int32), np.array([labels or [np.nan]], np.float32),
                   np.array([n], np.int32), np.array([query], np.int32), np.zeros((1, len(query)), np.float32),
                   np.array([len(query)], np.int32))


def clicks(pairs, *, users, items, label=1.0):
    """Positives only, two of the items sharing a genre."""
    prepared = tiny_data.make_prepared(unit="click")
    user, item = np.array(sorted(pairs), np.int32).T
    prepared.train = Interactions(user, item, np.full(len(user), label, np.float32), np.zeros(len(user), np.int64))
    prepared.users = prepared.users.iloc[:users]
    prepared.items = pd.DataFrame({"item_id": [f"i{i}" for i in range(items)],
                                   "genre": ["g0" if i in (0, 3) else "g1" for i in range(items)]})
    return prepared


def test_similarity_by_hand():
    value = scipy.sparse.csr_matrix(np.array([[1.0, 2, 0, 0], [-1, 1, 3, 0], [2, 0, 1, 0]]))
    content = scipy.sparse.csr_matrix(np.array([[3.0, 4], [0, 2], [0, 0], [0, 0]]))
    options = {"shrinkage": 2.0, "content_weight": 0.5}
    got = ItemSimilarity(value, content, power=1.0, **options)
    cosine = (1 * 2 - 1 * 1) / np.sqrt(6 * 5)
    expected = (2 * cosine + 2 * 0.5 * 0.8) / (2 + 2)
    assert got.between(np.array(0), np.array(1)) == pytest.approx(expected, rel=1e-6)
    assert got.between(np.array(2), np.array(1)) == pytest.approx(1 * 3 / np.sqrt(10 * 5) / 3, rel=1e-6)
    assert not got.rows(np.array([-1, 3])).any()
    sharp = ItemSimilarity(value, content, power=1.5, **options)
    whole = got.rows(np.arange(4))
    np.testing.assert_allclose(sharp.rows(np.arange(4)), np.sign(whole) * np.abs(whole) ** 1.5, rtol=1e-5)


def test_a_catalogue_too_large_to_hold_gives_the_same(prepared, monkeypatch):
    tasks = tiny_data.make_tasks(np.random.default_rng(1), items=tiny_data.ITEMS)
    held = build_baseline("item_knn").fit(prepared)
    assert held.similarity.most_rows == held.similarity.size
    expected = held.score(tasks)
    monkeypatch.setattr("tfmeta.baselines.item_similarity._HELD", 80)
    model = build_baseline("item_knn").fit(prepared)
    assert model.similarity.most_rows == 4
    np.testing.assert_allclose(model.score(tasks), expected, rtol=1e-6)


@pytest.mark.parametrize("neighbours", [None, 2])
def test_item_knn_prediction_by_hand(prepared, neighbours):
    model = build_baseline("item_knn", shrinkage=3.0, damping=0.4, power=1.0, content=0.2,
                           neighbours=neighbours).fit(prepared)
    biases, train = model.biases, prepared.train
    residual = np.zeros((tiny_data.USERS, tiny_data.ITEMS))
    known = np.zeros(residual.shape)
    residual[train.user_row, train.item_row] = (train.label - biases.mean - biases.item_bias[train.item_row]
                                                - biases.user_bias[train.user_row])
    known[train.user_row, train.item_row] = 1
    tasks = tiny_data.make_tasks(np.random.default_rng(3), items=tiny_data.ITEMS, low_support=1)
    got = model.score(tasks)
    for t in range(len(tasks)):
        n = tasks.support_length[t]
        items, labels = tasks.support_item[t, :n], tasks.support_label[t, :n].astype(float)
        user = (labels - biases.mean - biases.item_bias[items]).sum() / (n + model.user_damping)
        for q, i in enumerate(tasks.query_item[t]):
            weights = []
            for j in items:
                count = known[:, i] @ known[:, j]
                length = np.linalg.norm(residual[:, i]) * np.linalg.norm(residual[:, j])
                cosine = residual[:, i] @ residual[:, j] / length if length else 0.0
                weights.append((count * cosine + 3.0 * 0.2 * (i % 3 == j % 3)) / (count + 3.0))
            weights = np.array(weights)
            nearest = np.argsort(-np.abs(weights), kind="stable")[:neighbours]
            left = labels - biases.mean - biases.item_bias[items] - user
            expected = biases.mean + biases.item_bias[i] + user \
                + weights[nearest] @ left[nearest] / (np.abs(weights[nearest]).sum() + 0.4)
            # Neighbours of equal weight count together.
            if neighbours is None or len(set(np.round(np.abs(weights), 6))) == n:
                assert got[t, q] == pytest.approx(expected, abs=2e-6)


def test_item_knn_without_neighbours_is_the_content_bias(prepared):
    model = build_baseline("item_knn", content=0.0, shrinkage=1e9).fit(prepared)
    content = build_baseline("content_ridge", user_damping=model.user_damping).fit(prepared)
    tasks = tiny_data.make_tasks(np.random.default_rng(4), items=tiny_data.ITEMS)
    np.testing.assert_allclose(model.score(tasks), content.score(tasks), atol=1e-5)
    np.testing.assert_allclose(model.score(tasks.truncate(0)), content.score(tasks.truncate(0)), rtol=1e-12)


def test_implicit_item_knn_by_hand():
    prepared = clicks([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 2)], users=3, items=4)
    model = build_baseline("item_knn_implicit", shrinkage=1.0, asymmetry=0.5, content=0.1, popularity=0.01)
    model.fit(prepared)
    got = model.score(one_task([1, 2], [1.0, 1.0], [0, 3, -1]))[0]
    # Counts: item 0 three, 1 two, 2 one; together 0-1 twice, 0-2 once. Item 3 is cold and shares 0's genre.
    expected = 0.5 * (2 / (np.sqrt(6) + 1) + 1 / (np.sqrt(3) + 1)) + 0.01 * 3 / 3
    np.testing.assert_allclose(got, [expected, 0.0, 0.0], rtol=1e-9)
    got = model.score(one_task([0], [1.0], [0, 1, 2, 3]))[0]
    np.testing.assert_allclose(got, [0.1 + 0.01, 2 / (np.sqrt(6) + 1) + 0.01 * 2 / 3,
                                     1 / (np.sqrt(3) + 1) + 0.01 / 3, 0.1], rtol=1e-9)
    popular = model.score(one_task([], [], [2, 1, 0]))[0]
    np.testing.assert_allclose(popular, 0.01 * np.array([1, 2, 3]) / 3, rtol=1e-9)


def test_implicit_als_equals_a_direct_solve():
    prepared = tiny_data.make_prepared(unit="click")
    model = build_baseline("als_implicit", factors=3, ridge=2.0, confidence=5.0, sweeps=3).fit(prepared)
    table = model.item_table
    tasks = tiny_data.make_tasks(np.random.default_rng(5), items=tiny_data.ITEMS)
    tasks = dataclasses.replace(tasks, support_label=np.where(tasks.support_item >= 0, 1, np.nan).astype(np.float32))
    got, vectors = model.score(tasks), model.user_vectors(tasks)
    for t in range(len(tasks)):
        preference = np.zeros(len(table))
        preference[tasks.support_item[t, :tasks.support_length[t]]] = 1
        confidence = np.diag(1 + 5.0 * preference)
        vector = np.linalg.solve(table.T @ confidence @ table + 2.0 * np.eye(3), table.T @ confidence @ preference)
        np.testing.assert_allclose(vectors[t], vector, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(got[t], table[tasks.query_item[t]] @ vector, atol=2e-6)


def test_implicit_als_sweeps_lower_the_objective():
    prepared = tiny_data.make_prepared(unit="click")
    known = training_positives(prepared).toarray()

    def objective(sweeps):
        model = build_baseline("als_implicit", factors=3, ridge=1.0, confidence=4.0, sweeps=sweeps).fit(prepared)
        item = model.item_table
        user = model._solve(training_positives(prepared), item)
        error = (1 + 4.0 * known) * (known - user @ item.T) ** 2
        return error.sum() + (user ** 2).sum() + (item ** 2).sum()

    values = [objective(s) for s in (1, 2, 5, 20)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.99 * values[0]


def test_positives_of_every_unit():
    tasks = one_task([3, 3, 1, -1, 2], [1.0, 4.0, 0.0, 2.0, 0.5], [0])
    weight = Label("y", "weight", 0.0, 9.0, 1.0)
    np.testing.assert_array_equal(support_positives(tasks, num_items=4, label=weight).toarray(),
                                  [[0, 0, 0.5, 4, 2]])
    rating = Label("y", "rating", 1.0, 5.0, 4.0)
    np.testing.assert_array_equal(support_positives(tasks, num_items=4, label=rating).toarray(), [[0, 0, 0, 1, 0]])
    assert not support_positives(tasks.truncate(0), num_items=4, label=weight).nnz


@pytest.mark.parametrize("name", ["als_implicit", "item_knn_implicit", "als_fold_in", "item_knn", "popularity"])
def test_the_whole_catalogue_at_once_is_the_same_as_few_items(name):
    prepared = tiny_data.make_prepared(unit="rating" if name in ("als_fold_in", "item_knn") else "click")
    model = build_baseline(name).fit(prepared)
    tasks = tiny_data.make_tasks(np.random.default_rng(6), items=tiny_data.ITEMS)
    shape = (len(tasks), tiny_data.ITEMS)
    everything = dataclasses.replace(
        tasks, query_item=np.broadcast_to(np.arange(tiny_data.ITEMS, dtype=np.int32), shape),
        query_label=np.full(shape, np.nan, np.float32), query_length=np.full(len(tasks), tiny_data.ITEMS, np.int32))
    whole = model.score(everything)
    for width in (1, 3):
        few = model.score(dataclasses.replace(tasks, query_item=tasks.query_item[:, :width]))
        np.testing.assert_allclose(few, np.take_along_axis(whole, tasks.query_item[:, :width], 1), rtol=1e-9,
                                   atol=1e-12)


@pytest.mark.parametrize("name", ["als_implicit", "item_knn_implicit"])
def test_labels_that_are_no_positives_do_not_matter(name):
    """What else was shown to a user, and labels of others' tasks, leave its scores alone."""
    prepared = clicks([(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 2)], users=3, items=4)
    zeros = clicks([(0, 2), (1, 3)], users=3, items=4, label=0.0).train
    more = dataclasses.replace(prepared.train, **{
        f: np.concatenate([getattr(prepared.train, f), getattr(zeros, f)])
        for f in ("user_row", "item_row", "label", "time")})
    tasks = one_task([1], [1.0], [0, 2, 3])
    expected = build_baseline(name).fit(prepared).score(tasks)
    prepared.train = more
    np.testing.assert_allclose(build_baseline(name).fit(prepared).score(tasks), expected, rtol=1e-12)


def test_baselines_by_unit():
    assert "item_knn" in baselines_for("rating") and "item_knn_implicit" not in baselines_for("rating")
    assert {"popularity", "random", "als_implicit", "item_knn_implicit"} <= set(baselines_for("weight"))
    assert not {"als_fold_in", "item_knn", "damped_bias"} & set(baselines_for("weight"))
    assert all("two_tower_tfrs" not in baselines_for(unit) for unit in ("rating", "click", "weight"))
    assert all("two_tower_tfrs" in baselines_for(unit, all_of_them=True) for unit in ("rating", "click", "weight"))
    assert set(BASELINES) == {n for u in ("rating", "click", "weight") for n in baselines_for(u)} | {"two_tower_tfrs"}


@pytest.mark.parametrize("name,options,message", [
    ("item_knn", {"shrinkage": 0.0}, "shrinkage"), ("item_knn", {"neighbours": 0}, "neighbours"),
    ("als_implicit", {"ridge": 0.0}, "ridge"), ("item_knn_implicit", {"content": -1.0}, "content")])
def test_mistakes_are_named(prepared, name, options, message):
    with pytest.raises(ConfigError, match=message):
        build_baseline(name, **options).fit(prepared)
