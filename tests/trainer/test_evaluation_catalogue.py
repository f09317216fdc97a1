"""Recommendation out of the whole catalogue."""

import dataclasses

import numpy as np
import pytest
from evaluation_cases import LABEL, make_tasks

from tfmeta.data.interactions import Interactions
from tfmeta.errors import ConfigError
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.evaluate import evaluate

ITEMS = 100


class ByItem:
    """One score per item, raised for items like those of the support."""

    name, role, probability, label_unit, uses_support, uses_history = "m", "learner", False, False, True, False

    def __init__(self, score):
        self.table = score

    def score(self, tasks):
        return self.table[tasks.query_item] + tasks.support_length[:, None] * (tasks.query_item % 2)


@pytest.fixture(scope="module")
def tasks():
    """Distinct items within each task, as prepared data have them."""
    tasks = make_tasks(users=20, splits=2, states=("user_cold",))
    rng = np.random.default_rng(1)
    items = np.argsort(rng.random((len(tasks), ITEMS)), axis=1).astype(np.int32)
    real = tasks.support_item >= 0
    return dataclasses.replace(tasks, support_item=np.where(real, items[:, :8], -1).astype(np.int32),
                               query_item=items[:, 8:14])


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(2)
    pairs = np.unique(rng.integers(0, [20, ITEMS], (200, 2)), axis=0).astype(np.int32)
    return Interactions(pairs[:, 0], pairs[:, 1], np.ones(len(pairs), np.float32), np.zeros(len(pairs), np.int64))


def test_values_equal_a_plain_ranking_and_only_the_first_split_counts(tasks, train):
    scorer = ByItem(np.random.default_rng(3).normal(0, 5, ITEMS))
    catalogue = Catalogue(train, num_users=20, num_items=ITEMS, label=LABEL, cutoff=10)
    shown = tasks.truncate(5)
    got = catalogue.measure(scorer, shown, part=tasks)
    for t in range(len(tasks)):
        if tasks.split[t] != 0:
            assert np.isnan(got["recall@10"][t])
            continue
        score = scorer.table + shown.support_length[t] * (np.arange(ITEMS) % 2)
        met = set(train.item_row[train.user_row == tasks.user_row[t]]) | set(tasks.support_item[t])
        query = tasks.query_item[t].tolist()
        order = [i for i in np.argsort(-score, kind="stable") if i not in met or i in query]
        labels = dict(zip(query, tasks.query_label[t], strict=True))
        relevant = [i for i in query if labels[i] >= 4]
        if not relevant:
            assert np.isnan(got["ndcg@10"][t])
            continue
        assert got["recall@10"][t] == pytest.approx(len(set(order[:10]) & set(relevant)) / len(relevant))
        dcg = sum((2 ** labels[i] - 1) / np.log2(p + 2) for p, i in enumerate(order[:10]) if i in relevant)
        best = sum((2 ** labels[i] - 1) / np.log2(p + 2)
                   for p, i in enumerate(sorted(relevant, key=lambda i: -labels[i])))
        assert got["ndcg@10"][t] == pytest.approx(dcg / best)


def test_rows_have_floor_ceiling_and_gain(tasks, train):
    scorer = ByItem(np.random.default_rng(3).normal(0, 5, ITEMS))
    catalogue = Catalogue(train, num_users=20, num_items=ITEMS, label=LABEL)
    rows = evaluate([scorer], tasks, label=LABEL, ks=(0, 2, "all"), catalogue=catalogue).rows()
    got = {(r["model"], r["k"]): r["value"] for r in rows if r["metric"] == "recall@20"}
    assert set(got) == {(m, k) for m in ("chance", "perfect_order") for k in (0, 2, "all")} | {("m", 0), ("m", "all")}
    assert got["perfect_order", 0] == 1.0 and 0.2 < got["chance", 0] < 0.25
    assert [r["k"] for r in rows if r["metric"] == "gain_ndcg@20"] == ["all"]


def test_constant_scores_are_at_chance(tasks, train):
    scorer = ByItem(np.zeros(ITEMS))
    catalogue = Catalogue(train, num_users=20, num_items=ITEMS, label=LABEL)
    got, floor = catalogue.measure(scorer, tasks.truncate(0), part=tasks), catalogue.floor(tasks)
    for name in catalogue.metrics:
        np.testing.assert_allclose(got[name], floor[name], rtol=1e-12)


def test_mistakes_are_named(tasks, train):
    with pytest.raises(ConfigError, match="at least 1"):
        Catalogue(train, num_users=20, num_items=ITEMS, label=LABEL, cutoff=0)
    catalogue = Catalogue(train, num_users=20, num_items=ITEMS, label=LABEL, cutoff=5)
    with pytest.raises(ConfigError, match=r"requires another value .*received 5"):
        evaluate([], tasks, label=LABEL, catalogue=catalogue)
