"""Items as tasks: the same split, roles swapped, other tasks."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from prepare_helpers import hand_made, small_synthetic

from tfmeta.cli import main
from tfmeta.data.prepare import prepare
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import warm_item_tasks
from tfmeta.data.splits.explicit import read_frame
from tfmeta.data.task_set import STATES
from tfmeta.errors import ConfigError

USERS = SplitConfig(query_size=4, min_interactions=6, num_splits=2, validation_item_share=0.3, max_interactions=None,
                    warm_test_user_share=0.6)
SPLITS = {"random": USERS,
          "temporal": dataclasses.replace(USERS, mode="temporal", num_splits=None)}


@pytest.fixture(scope="module", params=list(SPLITS))
def sides(request, tmp_path_factory):
    raw, truth = small_synthetic()
    folder = tmp_path_factory.mktemp("sides")
    return [prepare(raw=raw, out=str(folder / side), oracle=truth.oracle,
                    split=dataclasses.replace(SPLITS[request.param], task_side=side)) for side in ("user", "item")]


def pairs(interactions, swapped=False):
    columns = [interactions.user_row, interactions.item_row]
    columns = columns[::-1] if swapped else columns
    return set(zip(*columns, interactions.label, interactions.time, strict=True))


def test_training_rows_are_the_same(sides):
    user, item = sides
    assert pairs(user.train) == pairs(item.train, swapped=True)
    order = np.lexsort((item.train.time, item.train.user_row))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    assert user.training_fingerprint() != item.training_fingerprint()


def test_roles_are_swapped_and_nothing_else(sides):
    user, item = sides
    a, b = user.feature_spec, item.feature_spec
    assert (a.task_side, b.task_side) == ("user", "item") and a.title == b.title and a.label == b.label
    assert b.user_id == a.item_id and b.item_id == a.user_id
    assert b.user_features == a.item_features and b.item_features == a.user_features
    assert item.users.rename(columns={"user_id": "item_id"}).equals(user.items[["item_id"] + [
        c for c in item.users.columns if c != "user_id"]])
    assert item.items["item_id"].tolist() == user.users["user_id"].tolist()
    assert item.items["partition"].tolist() == user.users["partition"].tolist()
    assert user.feature_spec.title in item.users.columns and user.feature_spec.title not in item.items.columns


def test_states_keep_their_names(sides):
    """A state names the user and the item of its questions, whichever of them the task is."""
    user, item = sides
    cold_user = (user.users["partition"] == "cold").to_numpy()
    cold_item = (user.items["partition"] == "cold").to_numpy()
    tasks = item.tasks("test")
    assert set(tasks.states) == set(STATES)
    for state in tasks.states:
        part = tasks.in_state(state)
        for side in ("query", "support"):
            task, place = np.nonzero(getattr(part, f"{side}_item") >= 0)
            asked_item, asked_user = part.user_row[task], getattr(part, f"{side}_item")[task, place]
            assert (cold_item[asked_item] == (state in ("item_cold", "both_cold"))).all()
            assert (cold_user[asked_user] == (state in ("user_cold", "both_cold"))).all()
    validation = item.tasks("validation")
    held = (user.items["partition"] == "validation").to_numpy()
    assert held[validation.in_state("item_cold").user_row].all()
    assert not held[validation.in_state("user_cold").user_row].any()


def test_labels_arrive(sides):
    _, item = sides
    raw, _ = small_synthetic()
    rows = raw.interactions
    label = dict(zip(zip(rows.item_row, rows.user_row, strict=True), rows.label, strict=True))
    for part in ("test", "validation"):
        tasks = item.tasks(part)
        for side in ("query", "support"):
            others, labels = getattr(tasks, f"{side}_item"), getattr(tasks, f"{side}_label")
            task, place = np.nonzero(others >= 0)
            assert all(label[tasks.user_row[t], others[t, p]] == labels[t, p]
                       for t, p in zip(task, place, strict=True))


def test_warm_items_are_asked_about_withheld_rows(sides):
    user, item = sides
    asked = user.tasks("test").in_state("warm")
    withheld = {(u, i) for u, row in zip(asked.user_row, asked.query_item, strict=True) for i in row}
    trained = {(i, u) for i, u, *_ in pairs(item.train)}
    warm = item.tasks("test").in_state("warm")
    assert len(warm) and (warm.query_length == 4).all()
    for i, query, support in zip(warm.user_row, warm.query_item, warm.support_item, strict=True):
        assert {(u, i) for u in query} <= withheld
        assert {(i, u) for u in support[support >= 0]} <= trained


def test_warm_queries_of_items_come_last_in_time(sides):
    _, item = sides
    if item.summary["split"]["mode"] != "temporal":
        pytest.skip("drawn at random")
    raw, _ = small_synthetic()
    rows = raw.interactions
    time = dict(zip(zip(rows.item_row, rows.user_row, strict=True), rows.time, strict=True))
    for state in ("warm", "item_cold"):
        part = item.tasks("test").in_state(state)
        for i, query, support in zip(part.user_row, part.query_item, part.support_item, strict=True):
            before = [time[i, u] for u in support[support >= 0]]
            assert max(before) <= min(time[i, u] for u in query) and before == sorted(before)


def test_warm_item_tasks_by_hand():
    # Item 0 has three withheld rows, item 1 one, item 2 two but a single training row before them.
    item = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    time = np.array([1, 2, 3, 4, 5, 1, 2, 3, 9, 8, 7, 6])
    withheld = np.array([0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0], bool)
    withheld_late = np.array([0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1], bool)
    split = SplitConfig(mode="temporal", query_size=2, min_interactions=4)
    tasks = warm_item_tasks(~withheld, withheld, item_row=item, time=time, row_hash=np.zeros(12, np.uint64),
                            config=split)
    assert tasks.user_row.tolist() == [0, 2]
    assert tasks.query.tolist() == [3, 4, 9, 8] and tasks.support.tolist() == [0, 1, 11, 10]
    assert tasks.support_length.tolist() == [2, 2] and tasks.query_length.tolist() == [2, 2]
    # What was trained on after the query is no support.
    tasks = warm_item_tasks(~withheld_late, withheld_late, item_row=item, time=time,
                            row_hash=np.zeros(12, np.uint64), config=split)
    assert tasks.user_row.tolist() == [0] and tasks.query.tolist() == [3, 4]


def test_every_interaction_is_counted_once(sides):
    for prepared in sides:
        rows = prepared.summary["rows"]
        total = rows["train"] + sum(sum(rows[p].values()) for p in ("test", "validation", "unused"))
        assert total == prepared.summary["read"]["kept"]
    user, item = (p.summary for p in sides)
    assert user["users"] == item["users"] and user["items"] == item["items"]
    assert user["rows"]["train"] == item["rows"]["train"]
    assert "items" in item["tasks"]["test"]["item_cold"] and "users" in user["tasks"]["test"]["item_cold"]


def test_the_oracle_knows_the_pairs(sides):
    _, item = sides
    _, truth = small_synthetic()
    tasks, oracle = item.tasks("test"), item.oracle()
    assert list(oracle) == ["expected"]
    expected = truth.expected_label(tasks.query_item, tasks.user_row[:, None])
    np.testing.assert_allclose(oracle["expected"], expected, rtol=1e-6)


def test_swapping_twice_is_the_same_data():
    raw, _ = hand_made()
    twice = raw.swap_sides().swap_sides()
    assert twice.users.equals(raw.users) and twice.items.equals(raw.items)
    assert dataclasses.replace(twice.schema, title=raw.schema.title) == raw.schema
    np.testing.assert_array_equal(twice.interactions.user_row, raw.interactions.user_row)


def test_a_tasks_file_withholds_its_warm_queries(tmp_path):
    """Item tasks beside a benchmark of fixed user tasks: trained on the same rows."""
    raw, _ = small_synthetic()
    first = prepare(raw=raw, out=str(tmp_path / "first"), split=USERS)
    for side in ("users", "items"):
        frame = getattr(first, side)
        name = f"{side[:-1]}_id"
        frame.loc[frame["partition"] == "cold", [name]].to_csv(tmp_path / f"{side}.csv", index=False)
    tasks, users, items = first.tasks("test"), first.users["user_id"], first.items["item_id"]
    pd.DataFrame({
        "state": tasks.state, "user_id": users.to_numpy()[tasks.user_row], "split": tasks.split,
        "items": [[*items.to_numpy()[q], *items.to_numpy()[s[s >= 0]]]
                  for q, s in zip(tasks.query_item, tasks.support_item, strict=True)]}).to_parquet(
        tmp_path / "tasks.parquet")
    assert len(read_frame(str(tmp_path / "tasks.parquet"), ("state", "items"))) == len(tasks)
    fixed = dataclasses.replace(
        USERS, mode="explicit", cold_users=str(tmp_path / "users.csv"), cold_items=str(tmp_path / "items.csv"),
        tasks=str(tmp_path / "tasks.parquet"))
    user, item = (prepare(raw=raw, out=str(tmp_path / side), split=dataclasses.replace(fixed, task_side=side))
                  for side in ("user", "item"))
    assert pairs(user.train) == pairs(item.train, swapped=True)
    assert len(user.tasks("test")) == len(tasks) and set(item.tasks("test").states) == set(STATES)


def test_the_command_takes_the_side(tmp_path, capsys):
    arguments = ["data", "prepare", "--dataset", "synthetic", "--set", "synthetic.users=80", "--set",
                 "synthetic.items=60", "--set", "synthetic.ratings_per_user=30", "--set", "query_size=4",
                 "--set", "min_interactions=6", "--task-side", "item"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "tasks are items" in text and "items)" in text and "item without 6 to 100 interactions there" in text
    assert PreparedData(str(tmp_path / "out")).feature_spec.task_side == "item"
    assert main([*arguments, "--json", "--out", str(tmp_path / "json")]) == 0
    assert json.loads(capsys.readouterr().out)["split"]["task_side"] == "item"
    with pytest.raises(ConfigError, match="task_side"):
        from tfmeta import config

        config.parse(SplitConfig, {"task_side": "films"})
