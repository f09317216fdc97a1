"""Nothing that is only in a test cell reaches what training reads."""

import dataclasses

import numpy as np
import pytest
from prepare_helpers import small_synthetic

from tfmeta.data.prepare import prepare
from tfmeta.data.raw_columns import raw_columns
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import draw_split
from tfmeta.data.splits.split import COLD

SPLITS = {"random": SplitConfig(query_size=4, min_interactions=6, num_splits=2, validation_item_share=0.3),
          "temporal": SplitConfig(mode="temporal", query_size=4, min_interactions=6, validation_item_share=0.3)}
SPLITS["refit"] = SPLITS["random"].without_validation()
SPLITS |= {f"{name}, items": dataclasses.replace(SPLITS[name], task_side="item", max_interactions=None)
           for name in ("random", "temporal", "refit")}


@pytest.fixture(params=list(SPLITS))
def case(request, tmp_path):
    raw, _ = small_synthetic()
    split = SPLITS[request.param]
    return raw, split, prepare(raw=raw, out=str(tmp_path / "out"), split=split), str(tmp_path / "other")


def drawn(raw, split):
    interactions = raw.interactions
    return draw_split(split, user_ids=raw.users["user_id"].to_numpy(), item_ids=raw.items["item_id"].to_numpy(),
                      user_row=interactions.user_row, item_row=interactions.item_row, time=interactions.time)


def real(prepared, kind):
    """Rows or tables of what are users (items) in the data, whatever the tasks' side."""
    swapped = prepared.feature_spec.task_side == "item"
    side = {"user": "item", "item": "user"}[kind] if swapped else kind
    return getattr(prepared, f"{side}s"), getattr(prepared.train, f"{side}_row")


def test_labels_of_test_cells_do_not_matter(case):
    raw, split, prepared, other = case
    parts = drawn(raw, split)
    test = parts.withheld | (parts.user_partition[raw.interactions.user_row] == COLD) | (
        parts.item_partition[raw.interactions.item_row] == COLD)
    label = raw.interactions.label.copy()
    rng = np.random.default_rng([2])
    label[test] = rng.permutation(label[test])
    changed = dataclasses.replace(raw, interactions=dataclasses.replace(raw.interactions, label=label))
    again = prepare(raw=changed, out=other, split=split)
    assert again.training_fingerprint() == prepared.training_fingerprint()
    # The change did arrive: the test tasks have other labels.
    files, others = prepared.manifest["files"], again.manifest["files"]
    assert files["tasks/test.parquet"]["sha256"] != others["tasks/test.parquet"]["sha256"]
    # And the fingerprint does depend on labels: one training label changes it.
    label = raw.interactions.label.copy()
    label[np.flatnonzero(parts.train)[0]] += 0.25
    changed = dataclasses.replace(raw, interactions=dataclasses.replace(raw.interactions, label=label))
    third = prepare(raw=changed, out=other, split=split, overwrite=True)
    assert third.training_fingerprint() != prepared.training_fingerprint()


def test_cold_ids_are_in_no_vocabulary_and_no_training_row(case):
    _, _, prepared, _ = case
    spec, train = prepared.feature_spec, prepared.train
    for side, feature, rows in (("user", spec.user_id, train.user_row), ("item", spec.item_id, train.item_row)):
        frame = getattr(prepared, f"{side}s")
        held = set(frame.loc[frame["partition"] != "warm", f"{side}_id"])
        ids = frame[f"{side}_id"].to_numpy()
        assert held and not held & set(feature.vocabulary) and not held & set(ids[rows])
        assert set(feature.vocabulary) == set(ids[rows])


def test_test_and_validation_rows_are_not_trained_on(case):
    _, _, prepared, _ = case
    trained = set(zip(prepared.train.user_row, prepared.train.item_row, strict=True))
    for part in ("test", "validation"):
        tasks = prepared.tasks(part)
        sides = [("query", tasks)]
        sides += [("support", tasks.in_state(s)) for s in tasks.states if s != "warm"]
        for side, chosen in sides:
            items = getattr(chosen, f"{side}_item")
            task, place = np.nonzero(items >= 0)
            assert not trained & set(zip(chosen.user_row[task], items[task, place], strict=True))
    validated = prepared.tasks("validation")
    asked = prepared.tasks("test").in_state("warm")
    seen = {(u, i) for u, row in zip(asked.user_row, asked.query_item, strict=True) for i in row}
    for side in ("query", "support"):
        items = getattr(validated, f"{side}_item")
        task, place = np.nonzero(items >= 0)
        assert not seen & set(zip(validated.user_row[task], items[task, place], strict=True))


def test_features_of_cold_users_and_items_fit_nothing(case):
    """Other features of cold and validation users and items leave vocabularies and statistics as they are."""
    raw, split, prepared, other = case
    users, items = raw.users.copy(), raw.items.copy()
    seen_users, seen_items = (np.unique(real(prepared, kind)[1]) for kind in ("user", "item"))
    unseen_user = ~np.isin(np.arange(len(users)), seen_users)
    unseen_item = ~np.isin(np.arange(len(items)), seen_items)
    assert unseen_user.any() and unseen_item.any()
    users.loc[unseen_user, "region"] = "elsewhere"
    users.loc[unseen_user, "income"] = np.float32(1e9)
    items.loc[unseen_item, "price"] = np.float32(1e9)
    items["tags"] = [["leak", "leak2"] if hidden else tags
                     for tags, hidden in zip(items["tags"], unseen_item, strict=True)]
    again = prepare(raw=dataclasses.replace(raw, users=users, items=items), out=other, split=split)
    assert again.feature_spec == prepared.feature_spec
    spec = again.feature_spec
    features = spec.user_features if spec.task_side == "item" else spec.item_features
    assert "leak" in set(raw_columns(real(again, "item")[0], features)["tags"].ravel())


def test_the_split_does_not_see_labels():
    import inspect

    assert "label" not in inspect.signature(draw_split).parameters


def test_cold_rows_do_not_move_the_training_set(case):
    """More interactions of one cold user leave partitions by draw and the training rows alone."""
    raw, split, prepared, other = case
    cold = int(np.flatnonzero(real(prepared, "user")[0]["partition"] == "cold")[0])
    rated = set(raw.interactions.item_row[raw.interactions.user_row == cold])
    new = np.array([i for i in range(len(raw.items)) if i not in rated][:5], np.int32)
    interactions = raw.interactions
    grown = dataclasses.replace(
        interactions, user_row=np.append(interactions.user_row, np.full(5, cold, np.int32)),
        item_row=np.append(interactions.item_row, new),
        label=np.append(interactions.label, np.full(5, 3.0, np.float32)),
        time=np.append(interactions.time, np.full(5, interactions.time.max())))
    again = prepare(raw=dataclasses.replace(raw, interactions=grown), out=other, split=split)
    assert again.training_fingerprint() == prepared.training_fingerprint()
