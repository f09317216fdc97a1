import hashlib
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tfmeta.config import parse
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.errors import ConfigError, DataError

RATING = Label(name="rating")


def make(counts, *, first_item=0, unit="rating"):
    """One user per count; every pair has an item row and a label that name it."""
    counts = np.asarray(counts)
    user = np.repeat(np.arange(len(counts)) * 3 + 1, counts).astype(np.int32)  # rows need not be contiguous
    item = (np.arange(len(user)) + first_item).astype(np.int32)
    label = (item % 5 + 1 if unit == "rating" else item % 2).astype(np.float32)
    return Interactions(user_row=user, item_row=item, label=label, time=np.arange(len(user)))


def sampler(counts, *, unit="rating", seed=0, **config):
    config = {"query_size": 3, "min_interactions": 5, "max_interactions": 12, "meta_batch_size": 4} | config
    label = RATING if unit == "rating" else Label(name="x", unit=unit, minimum=0, maximum=1, threshold=1)
    return TaskSampler(make(counts, unit=unit), config=parse(TaskSamplerConfig, config), label=label,
                       seed=seed)


def digest(batches):
    sha = hashlib.sha256()
    for batch in batches:
        for tensor in batch:
            sha.update(np.ascontiguousarray(tensor).tobytes())
    return sha.hexdigest()


COUNTS = [5, 4, 9, 12, 30, 6, 7, 13, 5, 40, 8]


def test_every_eligible_user_exactly_once_per_epoch_and_epochs_differ():
    tasks = sampler(COUNTS)
    assert tasks.num_tasks == 10 and tasks.steps_per_epoch == 3
    batches = list(tasks.dataset(stop_step=6))
    assert [len(b.user_row) for b in batches] == [4, 4, 2] * 2  # the smaller last batch is kept
    epochs = [np.concatenate([b.user_row for b in batches[i:i + 3]]) for i in (0, 3)]
    eligible = [3 * i + 1 for i, c in enumerate(COUNTS) if c >= 5]
    for users in epochs:
        np.testing.assert_array_equal(np.sort(users), eligible)
    assert (epochs[0] != epochs[1]).any()
    assert digest(batches[:3]) != digest(batches[3:])


def test_support_and_query_are_disjoint_own_rows_with_their_labels():
    tasks = sampler(COUNTS)
    data = make(COUNTS)
    owner = dict(zip(data.item_row.tolist(), data.user_row.tolist(), strict=True))
    for batch in tasks.dataset(stop_step=30):
        batch = [np.asarray(x) for x in batch]
        user, s_row, s_label, s_length, q_row, q_label, q_length = batch
        assert (q_length == 3).all() and q_row.shape[1] == 3
        for i in range(len(user)):
            support = s_row[i, :s_length[i]]
            query = q_row[i]
            assert len(set(support) | set(query)) == len(support) + len(query)
            assert {owner[r] for r in [*support, *query]} == {user[i]}
            count = (data.user_row == user[i]).sum()
            assert s_length[i] == min(count, 12) - 3
            np.testing.assert_array_equal(s_label[i, :s_length[i]], support % 5 + 1)
            np.testing.assert_array_equal(q_label[i], query % 5 + 1)
            assert (s_row[i, s_length[i]:] == -1).all() and (s_label[i, s_length[i]:] == 0).all()


def test_any_start_continues_identically():
    tasks = sampler(COUNTS, task_weighting="uniform")
    whole = list(tasks.dataset(stop_step=9))
    for start in (1, 3, 8):
        assert digest(tasks.dataset(start_step=start, stop_step=9)) == digest(whole[start:])
    assert digest([tasks.batch(epoch=1, batch=2)]) == digest([whole[5]])


def test_seeds_differ_and_another_process_draws_the_same():
    here = digest(sampler(COUNTS, seed=7).dataset(stop_step=6))
    assert here != digest(sampler(COUNTS, seed=8).dataset(stop_step=6))
    folder = str(pathlib.Path(__file__).parent)
    code = (f"import sys; sys.path[:0] = [{folder!r}]\nimport test_task_sampler as t\n"
            "print(t.digest(t.sampler(t.COUNTS, seed=7).dataset(stop_step=6)))")
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_users_beyond_the_maximum_are_subsampled_or_dropped():
    kept = sampler(COUNTS, over_max="subsample")
    dropped = sampler(COUNTS, over_max="drop")
    assert kept.num_tasks == 10 and dropped.num_tasks == 7
    data = make(COUNTS)
    seen = set()
    for batch in kept.dataset(stop_step=3 * 60):
        rows = np.concatenate([batch.support_row, batch.query_row], axis=1)[np.asarray(batch.user_row) == 28]
        seen |= set(rows[rows >= 0].tolist())
        assert (rows >= 0).sum() in (0, 12)
    assert seen == set(data.item_row[data.user_row == 28].tolist())  # every one of its 40 rows gets drawn
    unbounded = sampler(COUNTS, max_interactions=None)
    assert max(int(b.support_length.numpy().max()) for b in unbounded.dataset(stop_step=3)) == 37


def test_k_shot_truncation_draws_sizes_uniformly_within_bounds():
    tasks = sampler([40] * 50, max_interactions=None, support_size=[2, 6], meta_batch_size=25)
    length = np.concatenate([b.support_length for b in tasks.dataset(stop_step=40)])
    counts = np.bincount(length, minlength=7)
    assert counts[:2].sum() == 0 and len(counts) == 7
    assert stats.chisquare(counts[2:]).pvalue > 0.001
    short = sampler([5] * 6, support_size=[4, 9])
    assert all((b.support_length.numpy() == 2).all() for b in short.dataset(stop_step=4))
    zero = next(iter(sampler([9] * 4, support_size=[0, 0]).dataset(stop_step=1)))
    assert zero.support_row.shape == (4, 1) and (zero.support_length.numpy() == 0).all()


@pytest.mark.parametrize("bounds", [(0, 12), (2, 9), (4, 4)])
def test_the_mixed_law_draws_small_supports_more_often(bounds):
    low, high = bounds
    tasks = sampler([40] * 100, max_interactions=None, support_size=list(bounds), support_size_law="mixed",
                    meta_batch_size=50)
    length = np.concatenate([b.support_length for b in tasks.dataset(stop_step=160)])
    assert low <= length.min() and length.max() <= high
    sizes = np.arange(low, high + 1)
    logarithmic = np.log((sizes + 2) / (sizes + 1)) / np.log((high + 2) / (low + 1))
    share = 0.5 / len(sizes) + 0.5 * logarithmic
    assert share.sum() == pytest.approx(1.0)
    counts = np.bincount(length, minlength=high + 1)[low:]
    if low < high:
        assert stats.chisquare(counts, share * len(length)).pvalue > 0.001
        few = int((length <= low + 2).sum())
        assert stats.binomtest(few, len(length), share[:3].sum()).pvalue > 0.001
        assert few > 1.2 * len(length) * 3 / len(sizes)  # what the uniform law gives


def test_the_mixed_law_is_a_function_of_seed_epoch_and_batch():
    mixed = {"support_size": [0, 8], "support_size_law": "mixed", "max_interactions": None}
    tasks = sampler(COUNTS, **mixed)
    whole = list(tasks.dataset(stop_step=9))
    assert digest(tasks.dataset(start_step=4, stop_step=9)) == digest(whole[4:])
    assert digest([tasks.batch(epoch=1, batch=2)]) == digest([whole[5]])
    assert digest(sampler(COUNTS, **mixed).dataset(stop_step=9)) == digest(whole)
    assert digest(sampler(COUNTS, seed=1, **mixed).dataset(stop_step=9)) != digest(whole)
    # The law changes sizes alone; users and queries are those of the uniform one.
    uniform = list(sampler(COUNTS, **{**mixed, "support_size_law": "uniform"}).dataset(stop_step=9))
    assert any((a.support_length != b.support_length).numpy().any() for a, b in zip(whole, uniform, strict=True))
    for a, b in zip(whole, uniform, strict=True):
        for name in ("user_row", "query_row", "query_label"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_sizes_of_the_uniform_law_stay_what_they_were():
    """Drawn from the seed itself: runs made before there were other laws go on as they began."""
    tasks = sampler([40] * 20, max_interactions=None, support_size=[0, 8], meta_batch_size=20, seed=5)
    batch = tasks.batch(epoch=2, batch=0)
    seed = tf.random.fold_in(tf.random.fold_in(tf.constant([5, 1]), 2), 0)
    seed = tf.unstack(tf.random.split(seed, 3))[2]
    expected = tf.random.stateless_uniform([20], seed, minval=0, maxval=9, dtype=tf.int32, alg="philox")
    np.testing.assert_array_equal(batch.support_length, expected)


@pytest.mark.parametrize("over_max", ["within", "beyond"])
def test_the_draw_is_uniform(over_max):
    # Each of n rows is equally likely in each place of the query: 4000 tasks with a fixed seed.
    n = 10 if over_max == "within" else 20
    tasks = sampler([n] * 200, meta_batch_size=100)
    place = [np.concatenate([np.asarray(b.query_row)[:, j] % n for b in tasks.dataset(stop_step=20)])
             for j in range(3)]
    for rows in place:
        assert stats.chisquare(np.bincount(rows, minlength=n)).pvalue > 0.001
    first_two = np.bincount(place[0] * n + place[1], minlength=n * n).reshape(n, n)
    assert (np.diag(first_two) == 0).all()
    assert stats.chisquare(first_two[~np.eye(n, dtype=bool)]).pvalue > 0.001


def test_implicit_support_holds_positives_only():
    tasks = sampler([20] * 8, unit="click", max_interactions=None)
    negatives = 0
    for batch in tasks.dataset(stop_step=10):
        real = tf.sequence_mask(batch.support_length, tf.shape(batch.support_row)[1]).numpy()
        assert (batch.support_label.numpy()[real] == 1).all()
        assert (batch.support_row.numpy()[real] % 2 == 1).all()
        assert (batch.support_row.numpy()[~real] == -1).all()
        # All positives outside the query are in the support.
        taken = (batch.query_row.numpy() % 2 == 1).sum(axis=1)
        np.testing.assert_array_equal(batch.support_length.numpy(), 10 - taken)
        negatives += int((batch.query_label.numpy() == 0).sum())
    assert negatives > 0


def test_square_root_weighting_draws_users_in_proportion():
    counts = np.repeat([5, 20, 80, 320], 5)
    tasks = sampler(counts, max_interactions=12, task_weighting="sqrt", meta_batch_size=20)
    users = np.concatenate([b.user_row for b in tasks.dataset(stop_step=200)]) // 3
    expected = np.sqrt(counts) / np.sqrt(counts).sum() * len(users)
    assert stats.chisquare(np.bincount(users, minlength=20), expected).pvalue > 0.001


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="min_interactions"):
        TaskSamplerConfig(query_size=13)
    with pytest.raises(ConfigError, match="support_size"):
        TaskSamplerConfig(support_size=(5, 2))
    with pytest.raises(ConfigError, match=r"support_size.*at most 40.*max_interactions \(50\).*received \(41, 60\)"):
        TaskSamplerConfig(max_interactions=50, support_size=(41, 60))
    assert TaskSamplerConfig(max_interactions=50, support_size=(40, 60)).support_width == 40
    with pytest.raises(ConfigError, match="support_size_law"):
        TaskSamplerConfig(support_size_law="mixed")
    with pytest.raises(ConfigError, match="support_size_law"):
        parse(TaskSamplerConfig, {"support_size": [0, 5], "support_size_law": "mixd"})
    with pytest.raises(ConfigError, match="max_interactions"):
        TaskSamplerConfig(max_interactions=5)
    with pytest.raises(ConfigError, match="seed"):
        sampler(COUNTS, seed=-1)
    with pytest.raises(DataError, match="3 to 4"):
        sampler([4, 3])
