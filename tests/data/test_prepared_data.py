import json
import time

import numpy as np
import pytest
from prepare_helpers import small_synthetic

from tfmeta.data.prepare import prepare
from tfmeta.data.prepared_data import TRAINING_FILES, PreparedData
from tfmeta.data.prepared_tables import to_bytes
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.task_rows import TaskRows
from tfmeta.errors import DataError


@pytest.fixture
def path(tmp_path):
    raw, _ = small_synthetic()
    prepare(raw=raw, out=str(tmp_path / "out"), split=SplitConfig(num_splits=1))
    return tmp_path / "out"


def test_an_absent_or_foreign_directory_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"is not a prepared directory.*tfmeta data prepare"):
        PreparedData(str(tmp_path))
    for text, message in (('{"format": "other"}', "received 'other'"), ("[1]", r"received \[1\]"),
                          ("{", "not valid JSON"), ("\xff", "not valid JSON")):
        (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=message):
            PreparedData(str(tmp_path))


@pytest.mark.parametrize("name", ["train.parquet", "tasks/test.parquet", "feature_spec.json"])
def test_changes_and_losses_are_found(path, name):
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{name}' was changed"):
        PreparedData(str(path))
    PreparedData(str(path), verify=False)
    (path / name).unlink()
    with pytest.raises(DataError, match=f"incomplete: '{name}' is missing"):
        PreparedData(str(path))


def test_the_manifest_is_right_and_the_fingerprint_covers_training(path):
    prepared = PreparedData(str(path) + "/")
    for name, entry in prepared.manifest["files"].items():
        assert (path / name).stat().st_size == entry["bytes"]
    before = prepared.training_fingerprint()
    for name in prepared.manifest["files"]:
        changed = json.loads(json.dumps(prepared.manifest))
        changed["files"][name]["sha256"] = "0" * 64
        other = PreparedData(str(path))
        other.manifest = changed
        assert (other.training_fingerprint() != before) == (name in TRAINING_FILES)


@pytest.mark.serial
def test_many_long_tasks_are_read_fast(path):
    """40,000 tasks of 40 rows: well below a second on an idle machine, minutes if done list by list."""
    rng = np.random.default_rng([0])
    number = 40_000
    length = rng.integers(0, 60, number)
    tasks = TaskRows(state=np.full(number, "user_cold"), user_row=np.arange(number, dtype=np.int32),
                     split=np.zeros(number, np.int32), support=rng.integers(0, 1000, length.sum()),
                     support_length=length, query=rng.integers(0, 1000, 10 * number),
                     query_length=np.full(number, 10))
    item, label = np.arange(1000, dtype=np.int32), np.arange(1000, dtype=np.float32)
    (path / "tasks" / "test.parquet").write_bytes(to_bytes(tasks.to_table(item_row=item, label=label)))
    begun = time.perf_counter()
    found = PreparedData(str(path), verify=False).tasks("test")
    assert time.perf_counter() - begun < 5
    wanted = tasks.to_task_set(item_row=item, label=label)
    for name, value in wanted.__dict__.items():
        np.testing.assert_array_equal(getattr(found, name), value)
        assert getattr(found, name).dtype == value.dtype
