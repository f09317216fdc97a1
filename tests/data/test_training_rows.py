"""How training interactions are written, and read in parts."""

import dataclasses
import itertools
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from prepare_helpers import small_synthetic

from tfmeta.data.interactions import Interactions
from tfmeta.data.prepared_tables import write_train
from tfmeta.data.training_rows import TrainingRows


def raw_of(user, *, seed=0):
    rng = np.random.default_rng(seed)
    number = len(user)
    interactions = Interactions(
        user_row=np.asarray(user, np.int32), item_row=np.arange(number, dtype=np.int32),
        label=rng.integers(1, 6, number).astype(np.float32), time=rng.integers(0, 20, number))
    return dataclasses.replace(small_synthetic()[0], interactions=interactions)


@pytest.mark.parametrize("rows_per_group", [1, 40, 10**9])
def test_whole_users_in_order_in_every_row_group(tmp_path, rows_per_group):
    rng = np.random.default_rng(3)
    raw = raw_of(np.where(rng.random(1000) < 0.1, 7, rng.integers(0, 60, 1000)))  # user 7 has over 100 rows
    train = rng.random(1000) < 0.8
    path = str(tmp_path / "train.parquet")
    write_train(raw.interactions, train, path=path, rows_per_group=rows_per_group)
    rows = np.flatnonzero(train)
    rows = rows[np.lexsort((raw.interactions.time[rows], raw.interactions.user_row[rows]))]
    table = pq.read_table(path)
    for name in ("user_row", "item_row", "label", "time"):
        wanted = getattr(raw.interactions, name)[rows]
        np.testing.assert_array_equal(table[name].to_numpy(), wanted)
        assert table[name].to_numpy().dtype == wanted.dtype
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(g)["user_row"].to_numpy() for g in range(file.num_row_groups)]
    users = [np.unique(g) for g in groups]
    assert np.concatenate(users).tolist() == np.unique(raw.interactions.user_row[rows]).tolist()
    assert all(len(g) <= rows_per_group or len(u) == 1 for g, u in zip(groups, users, strict=True))
    # No row group could have had the next user too.
    assert all(len(g) + (following == following[0]).sum() > rows_per_group
               for g, following in itertools.pairwise(groups))
    found, offsets = TrainingRows(path).user_offsets()
    np.testing.assert_array_equal(found, np.concatenate(users))
    np.testing.assert_array_equal(np.diff(offsets), np.bincount(raw.interactions.user_row[rows])[found])


def test_no_rows_at_all(tmp_path):
    path = str(tmp_path / "train.parquet")
    write_train(raw_of([1, 2, 3]).interactions, np.zeros(3, bool), path=path)
    rows = TrainingRows(path)
    users, offsets = rows.user_offsets()
    assert rows.num_rows == 0 and len(users) == 0 and offsets.tolist() == [0]
    assert pq.read_schema(path).names == ["user_row", "item_row", "label", "time"]


def test_writing_takes_less_than_the_rows_once_more(tmp_path):
    number = 1_000_000
    raw = raw_of(np.random.default_rng(0).integers(0, 10_000, number))
    size = sum(getattr(raw.interactions, n).nbytes for n in ("user_row", "item_row", "label", "time"))
    tracemalloc.start()
    write_train(raw.interactions, np.ones(number, bool), path=str(tmp_path / "train.parquet"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size, (peak / number, size / number)


def test_distinct_labels_of_all_row_groups(tmp_path):
    raw = raw_of(np.repeat(np.arange(50), 4))
    label = np.repeat(np.arange(50, dtype=np.float32), 4) / 2
    interactions = dataclasses.replace(raw.interactions, label=label)
    path = str(tmp_path / "train.parquet")
    write_train(interactions, label != 3.0, path=path, rows_per_group=20)
    found = TrainingRows(path).distinct_labels()
    np.testing.assert_array_equal(found, np.setdiff1d(label, [3.0]))
    assert TrainingRows(path).label_summary() == (0.0, 24.5, 192 / 196)
    write_train(interactions, label > 100, path=(empty := str(tmp_path / "none.parquet")), rows_per_group=20)
    assert TrainingRows(empty).label_summary() is None
    # Past the limit the rest is not read.
    some = TrainingRows(path).distinct_labels(limit=7)
    assert 7 < len(some) < len(found) and set(some) < set(found)
