"""The item-side twin of a prepared directory."""

import dataclasses

import numpy as np
import pytest
from prepare_helpers import small_synthetic

from tfmeta.data.item_side import write_item_side
from tfmeta.data.prepare import prepare
from tfmeta.data.split_config import SplitConfig
from tfmeta.errors import DataError

SPLIT = SplitConfig(query_size=4, min_interactions=6, num_splits=2, validation_item_share=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("twins")


@pytest.fixture(scope="module")
def prepared(folder):
    return prepare(raw=small_synthetic()[0], out=str(folder / "user"), split=SPLIT)


@pytest.fixture(scope="module")
def twin(folder, prepared):
    return write_item_side(prepared, out=str(folder / "twin"))


def test_it_is_what_preparation_with_items_as_tasks_gives(folder, twin):
    direct = prepare(raw=small_synthetic()[0], out=str(folder / "item"),
                     split=dataclasses.replace(SPLIT, task_side="item"))
    assert twin.feature_spec == direct.feature_spec
    assert twin.users.equals(direct.users[twin.users.columns]) and twin.items.equals(direct.items[twin.items.columns])
    for name in ("user_row", "time"):
        np.testing.assert_array_equal(getattr(twin.train, name), getattr(direct.train, name))
    rows = [sorted(zip(d.train.user_row, d.train.item_row, d.train.label, strict=True)) for d in (twin, direct)]
    assert rows[0] == rows[1]


def test_it_has_no_tasks_and_depends_on_training_alone(folder, prepared, twin):
    assert len(twin.tasks("test")) == 0 and len(twin.tasks("validation")) == 0
    assert twin.summary["item_side_of"] == prepared.training_fingerprint()
    raw = small_synthetic()[0]
    cold = np.isin(raw.interactions.user_row, np.flatnonzero((prepared.users["partition"] == "cold").to_numpy()))
    label = np.where(cold, np.float32(1), raw.interactions.label)
    changed = dataclasses.replace(raw, interactions=dataclasses.replace(raw.interactions, label=label))
    other = write_item_side(prepare(raw=changed, out=str(folder / "changed"), split=SPLIT),
                            out=str(folder / "changed_twin"))
    assert other.training_fingerprint() == twin.training_fingerprint()


def test_items_as_tasks_have_no_twin(folder, prepared, twin):
    with pytest.raises(DataError, match="tasks are users"):
        write_item_side(twin, out=str(folder / "twice"))
    with pytest.raises(DataError, match="exists already"):
        write_item_side(prepared, out=twin.path)
