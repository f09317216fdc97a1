"""The history of a warm user as further support."""

import dataclasses

import numpy as np
import pytest
from evaluation_cases import LABEL, Peeking, make_tasks

from tfmeta.data.interactions import Interactions
from tfmeta.errors import ConfigError
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.history_scorer import HistoryScorer


def make_train(*, users=40, seed=0):
    """Interactions of the first users, with items above all of the tasks' and a few among them."""
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, users, 400)).astype(np.int32)
    return Interactions(user, rng.integers(90, 200, 400).astype(np.int32), rng.integers(1, 6, 400).astype(np.float32),
                        np.arange(400))


def real(tasks, row):
    n = tasks.support_length[row]
    return list(zip(tasks.support_item[row, :n].tolist(), tasks.support_label[row, :n].tolist(), strict=True))


@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("k", [0, 2, None])
def test_supports_are_extended_as_by_hand(k, limit):
    tasks, train = make_tasks().truncate(k), make_train()
    scorer = HistoryScorer(Peeking(tasks), train, limit=limit)
    got = scorer.with_history(tasks)
    for row in range(len(tasks)):
        expected = real(tasks, row)
        if tasks.state[row] == "item_cold":
            mine = np.flatnonzero(train.user_row == tasks.user_row[row])[-(limit or 10**6):]
            own = {item for item, _ in expected}
            expected += [(int(train.item_row[i]), float(train.label[i])) for i in mine if train.item_row[i] not in own]
        assert real(got, row) == expected
    beyond = np.arange(got.support_item.shape[1])[None, :] >= got.support_length[:, None]
    assert (got.support_item[beyond] == -1).all() and np.isnan(got.support_label[beyond]).all()
    np.testing.assert_array_equal(got.query_item, tasks.query_item)


def test_rows_say_so_and_only_item_cold_changes():
    tasks = make_tasks()
    model = Peeking(tasks)
    cells = evaluate([HistoryScorer(model, make_train())], tasks, label=LABEL, ks=(0, "all")).cells
    mine = [c for c in cells if c.model == "learner_history"]
    assert {c.k for c in mine} == {0, "all"} and all(c.uses_history and c.role == "learner" for c in mine)
    for shown in model.calls:
        expected = tasks.in_state(shown.state[0])
        longer = (shown.support_length > expected.support_length).any()
        assert longer == (shown.state[0] == "item_cold")
        assert np.isnan(shown.query_label).all()


def test_no_training_interactions_change_nothing():
    tasks = make_tasks()
    none = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    got = HistoryScorer(Peeking(tasks), none).with_history(tasks)
    for field in dataclasses.fields(tasks):
        np.testing.assert_array_equal(getattr(got, field.name), getattr(tasks, field.name))


def test_mistakes_are_named():
    tasks = make_tasks()
    with pytest.raises(ConfigError, match="reads supports"):
        HistoryScorer(Peeking(tasks, uses_support=False), make_train())
    with pytest.raises(ConfigError, match="at least 1"):
        HistoryScorer(Peeking(tasks), make_train(), limit=0)
