import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.data.ragged import pad
from tfmeta.data.splits.task_rows import TaskRows


def make(lengths, seed=0, query=3):
    """Tasks whose items are their own row numbers, labels ten times that."""
    lengths = np.asarray(lengths, np.int64)
    number = len(lengths)
    rows = np.random.default_rng([seed]).permutation(int(lengths.sum()) + query * number)
    states = np.array(["user_cold", "warm", "both_cold"])[np.arange(number) % 3] if number else np.zeros(0, str)
    tasks = TaskRows(state=states, user_row=np.arange(number, dtype=np.int32),
                     split=np.zeros(number, np.int32), support=rows[:lengths.sum()],
                     support_length=lengths, query=rows[lengths.sum():],
                     query_length=np.full(number, query))
    item = np.arange(len(rows), dtype=np.int32)
    return tasks, tasks.to_task_set(item_row=item, label=(10 * item).astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=12), st.integers(0, 8))
def test_padding_and_truncation(lengths, k):
    tasks, padded = make(lengths)
    assert padded.support_item.shape == (len(lengths), max(1, max(lengths, default=0)))
    start = np.cumsum(lengths) - lengths if lengths else []
    short = padded.truncate(k)
    np.testing.assert_array_equal(short.support_length, np.minimum(lengths, k))
    for t, (first, n) in enumerate(zip(start, lengths, strict=True)):
        real = tasks.support[int(first):int(first) + n]
        np.testing.assert_array_equal(padded.support_item[t, :n], real)
        np.testing.assert_array_equal(padded.support_label[t, :n], 10.0 * real)
        assert (padded.support_item[t, n:] == -1).all() and np.isnan(padded.support_label[t, n:]).all()
        kept = min(n, k)
        np.testing.assert_array_equal(short.support_item[t, :kept], real[:kept])
        assert (short.support_item[t, kept:] == -1).all() and np.isnan(short.support_label[t, kept:]).all()
    np.testing.assert_array_equal(short.query_item, padded.query_item)


def test_truncation_is_nested_and_keeps_everything_for_none():
    _, padded = make([5, 0, 7, 2])
    assert padded.truncate(None) is padded
    two, four = padded.truncate(2), padded.truncate(4)
    np.testing.assert_array_equal(four.truncate(2).support_item, two.support_item)
    np.testing.assert_array_equal(padded.truncate(100).support_item, padded.support_item)
    nothing = padded.truncate(0)
    assert nothing.support_item.shape == (4, 1) and (nothing.support_length == 0).all()


def test_states_selection_and_batches():
    _, padded = make([5, 0, 7, 2, 4])
    assert padded.states == ("warm", "user_cold", "both_cold")
    cold = padded.in_state("user_cold")
    assert cold.user_row.tolist() == [0, 3] and cold.support_item.shape == (2, 5)
    seen = []
    for index, part in padded.batches(2):
        seen += index.tolist()
        np.testing.assert_array_equal(part.support_length, padded.support_length[index])
        assert part.support_item.shape[1] == max(1, part.support_length.max())
        np.testing.assert_array_equal(part.query_item, padded.query_item[index])
    assert sorted(seen) == [0, 1, 2, 3, 4]
    empty = padded.in_state("item_cold")
    assert len(empty) == 0 and empty.states == () and list(empty.batches(4)) == []


def test_concatenation():
    first, _ = make([2, 1])
    second, _ = make([3], seed=1)
    both = TaskRows.concatenate([first, second])
    assert both.support_length.tolist() == [2, 1, 3] and len(both) == 3
    np.testing.assert_array_equal(both.query, np.concatenate([first.query, second.query]))
    assert len(TaskRows.concatenate([])) == 0


def test_pad_wants_values_that_fit():
    with pytest.raises(ValueError):
        pad(np.arange(3), np.array([1, 1]), fill=0, dtype=np.int32)
