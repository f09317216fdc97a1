import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from test_task_sampler import COUNTS, RATING, digest, make

from tfmeta.config import parse
from tfmeta.data.label import Label
from tfmeta.data.streaming_task_sampler import StreamingTaskSampler
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.data.training_rows import TrainingRows
from tfmeta.errors import ConfigError, DataError

CONFIG = {"query_size": 3, "min_interactions": 5, "max_interactions": 12, "meta_batch_size": 4}
MANY = np.random.default_rng(0).integers(3, 40, 150)


@pytest.fixture
def streaming(tmp_path):
    def build(counts, *, bound, group=60, unit="rating", seed=0, aligned=True, **config):
        path = str(tmp_path / f"{group}-{unit}-{len(counts)}-{aligned}.parquet")
        write(make(counts, unit=unit), path, group=group, aligned=aligned)
        label = RATING if unit == "rating" else Label(name="x", unit=unit, minimum=0, maximum=1, threshold=1)
        config = parse(TaskSamplerConfig, CONFIG | config | {"max_rows_in_memory": bound})
        return StreamingTaskSampler(TrainingRows(path), config=config, label=label, seed=seed)

    return build


def write(data, path, *, group, aligned):
    """Row groups of `group` rows, or of whole users with at least as many."""
    table = pa.table({n: getattr(data, n) for n in ("user_row", "item_row", "label", "time")})
    _, offsets = data.user_offsets()
    at = 0
    with pq.ParquetWriter(path, table.schema) as writer:
        while at < len(data):
            stop = min(at + group, len(data))
            if aligned:
                stop = int(offsets[np.searchsorted(offsets, stop)])
            writer.write_table(table.slice(at, stop - at))
            at = stop


def memory_sampler(counts, *, unit="rating", seed=0, **config):
    label = RATING if unit == "rating" else Label(name="x", unit=unit, minimum=0, maximum=1, threshold=1)
    config = parse(TaskSamplerConfig, CONFIG | config)
    return TaskSampler(make(counts, unit=unit), config=config, label=label, seed=seed)


@pytest.mark.parametrize("unit", ["rating", "click"])
@pytest.mark.parametrize("aligned", [True, False])
def test_one_window_gives_the_batches_of_the_sampler_in_memory(streaming, unit, aligned):
    tasks = streaming(MANY, bound=10**6, unit=unit, seed=5, aligned=aligned, support_size=[2, 6])
    plain = memory_sampler(MANY, unit=unit, seed=5, support_size=[2, 6])
    assert (tasks.num_tasks, tasks.steps_per_epoch) == (plain.num_tasks, plain.steps_per_epoch)
    steps = 2 * plain.steps_per_epoch + 3
    wanted = digest(plain.dataset(stop_step=steps))
    assert digest(tasks.dataset(stop_step=steps)) == wanted
    whole = TaskSampler(tasks._source, config=plain.config, label=plain.label, seed=5)
    assert digest(whole.batches(stop_step=steps)) == wanted


@pytest.mark.parametrize("aligned", [True, False])
def test_every_user_once_per_epoch_with_own_rows_and_labels(streaming, aligned):
    tasks, data = streaming(MANY, bound=800, aligned=aligned), make(MANY)
    owner = dict(zip(data.item_row.tolist(), data.user_row.tolist(), strict=True))
    count = dict(zip(*np.unique(data.user_row, return_counts=True), strict=True))
    n = tasks.steps_per_epoch
    batches = [[np.asarray(x) for x in b] for b in tasks.dataset(stop_step=3 * n)]
    assert len(tasks._plan.windows(0)) > 5
    assert [len(b[0]) for b in batches] == ([4] * (n - 1) + [tasks.num_tasks - 4 * (n - 1)]) * 3
    epochs = [np.concatenate([b[0] for b in batches[i * n:(i + 1) * n]]) for i in range(3)]
    for users in epochs:
        np.testing.assert_array_equal(np.sort(users), 3 * np.flatnonzero(MANY >= 5) + 1)
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    for user, s_row, s_label, s_length, q_row, q_label, _ in batches:
        for i in range(len(user)):
            rows, labels = np.append(s_row[i, :s_length[i]], q_row[i]), np.append(s_label[i, :s_length[i]], q_label[i])
            assert len(set(rows)) == len(rows) == min(count[user[i]], 12)
            assert {owner[r] for r in rows} == {user[i]}
            np.testing.assert_array_equal(labels, rows % 5 + 1)
            assert (s_row[i, s_length[i]:] == -1).all() and (s_label[i, s_length[i]:] == 0).all()


@pytest.mark.parametrize("weighting", ["uniform", "sqrt"])
def test_any_start_continues_identically(streaming, weighting):
    tasks = streaming(MANY, bound=800, seed=3, task_weighting=weighting)
    n = tasks.steps_per_epoch
    whole = list(tasks.dataset(stop_step=3 * n))
    assert len(whole) == 3 * n
    for start in (1, n, n + 7):
        assert digest(tasks.dataset(start_step=start, stop_step=3 * n)) == digest(whole[start:])
    assert digest(tasks.batches(start_step=n - 1, stop_step=n + 5)) == digest(whole[n - 1:n + 5])
    for epoch, batch in ((1, 5), (2, n - 1)):
        assert digest([tasks.batch(epoch=epoch, batch=batch)]) == digest([whole[epoch * n + batch]])
    endless = iter(tasks.dataset(start_step=n))
    assert digest([next(endless) for _ in range(n)]) == digest(whole[n:2 * n])
    other = streaming(MANY, bound=800, seed=4, task_weighting=weighting)
    assert digest(other.dataset(stop_step=n)) != digest(whole[:n])


def test_windows_keep_the_bound_and_mix_users_anew_in_every_epoch(streaming):
    tasks = streaming(MANY, bound=800)
    counts, together = tasks._count, []
    for epoch in range(3):
        windows = tasks._plan.windows(epoch)
        users = [np.concatenate([np.arange(*s) for s in w.segments]) for w in windows]
        assert all(counts[u].sum() <= 400 for u in users)
        assert [w.first for w in windows[1:]] == [w.stop for w in windows[:-1]]
        assert all(w.first % 4 == 0 for w in windows)
        # No window could have had one more batch.
        assert all(counts[np.concatenate(users[i:i + 2])].sum() > 250 for i in range(len(users) - 1))
        together.append({frozenset(u.tolist()) for u in users})
    assert not together[0] & together[1] and not together[1] & together[2]


def test_square_root_weighting_draws_users_in_proportion(streaming):
    counts = np.repeat([5, 20, 80, 320], 5)
    tasks = streaming(counts, bound=3200, task_weighting="sqrt", meta_batch_size=5)
    assert max(len(tasks._plan.windows(epoch)) for epoch in range(20)) > 1
    users = np.concatenate([b.user_row for b in tasks.dataset(stop_step=800)]) // 3
    expected = np.sqrt(counts) / np.sqrt(counts).sum() * len(users)
    assert stats.chisquare(np.bincount(users, minlength=20), expected).pvalue > 0.001


def test_all_places_of_a_window_are_equally_likely(streaming):
    tasks = streaming([12] * 40, bound=2 * 12 * 20, group=12 * 20, meta_batch_size=20)
    users = np.array([tasks.batch(epoch=epoch, batch=0).user_row for epoch in range(250)]) // 3
    assert (users // 20 == users[:, :1] // 20).all()
    assert stats.binomtest(int((users[:, 0] // 20).sum()), 250).pvalue > 0.001  # which shard comes first
    places = np.stack([np.bincount(users[:, j] % 20, minlength=20) for j in range(20)])
    assert stats.chisquare(places.reshape(-1)).pvalue > 0.001


def test_an_abandoned_pipeline_leaves_no_thread(streaming):
    tasks = streaming(MANY, bound=800)
    before = set(threading.enumerate())
    for _ in range(3):
        iterator = iter(tasks.dataset())
        next(iterator)
        del iterator
    batches = tasks.batches()
    next(batches)
    batches.close()

    def started_here():  # TensorFlow's own pool threads show up as dummy threads once they have called Python
        ours = set(threading.enumerate()) - before
        return [t.name for t in ours if not isinstance(t, threading._DummyThread)]

    deadline = time.monotonic() + 10
    while started_here() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not started_here()


def test_too_small_a_bound_and_unsorted_rows_are_refused(streaming, tmp_path):
    with pytest.raises(ConfigError, match=r"max_rows_in_memory' requires at least 190 .*received 189"):
        streaming(COUNTS, bound=189)
    assert streaming(COUNTS, bound=190).num_tasks == 10
    with pytest.raises(ConfigError, match="max_rows_in_memory"):
        TaskSamplerConfig(max_rows_in_memory=0)
    with pytest.raises(DataError, match="3 to 4"):
        streaming([4, 3], bound=100)
    path = str(tmp_path / "unsorted.parquet")
    pq.write_table(pa.table({"user_row": pa.array([1, 2, 1], pa.int32())}), path, row_group_size=2)
    with pytest.raises(DataError, match="received user 1 after user 2 in row 2"):
        TrainingRows(path).user_offsets()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="requires a Parquet file"):
        TrainingRows(str(tmp_path / "broken.parquet"))


def test_rows_are_read_alike_from_other_file_systems(tmp_path):
    import tensorflow as tf

    data = make(MANY)
    local = str(tmp_path / "rows.parquet")
    write(data, local, group=100, aligned=False)
    tf.io.gfile.copy(local, "ram://rows.parquet", overwrite=True)
    for path in (local, "ram://rows.parquet"):
        rows = TrainingRows(path)
        assert rows.num_rows == len(data)
        for found, wanted in zip(rows.user_offsets(), data.user_offsets(), strict=True):
            np.testing.assert_array_equal(found, wanted)
            assert found.dtype == wanted.dtype
        with rows.reader() as reader:
            for start, stop in ((0, 5), (95, 310), (100, 200), (len(data) - 3, len(data))):
                item, label = reader.read(start, stop)
                np.testing.assert_array_equal(item, data.item_row[start:stop])
                np.testing.assert_array_equal(label, data.label[start:stop])
                assert (item.dtype, label.dtype) == (np.int32, np.float32)
