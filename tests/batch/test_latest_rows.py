"""The bounded combination of interactions, against plain pandas."""

import itertools

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.batch import latest_rows
from tfmeta.batch.latest_rows import LatestRows, keep_latest, sort_rows
from tfmeta.batch.user_hash import shard_of

SCHEMA = pa.schema([("user", pa.string()), ("item", pa.string()), ("label", pa.float32()), ("time", pa.int64()),
                    ("position", pa.int64())])
ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-3, 3)), max_size=40)


def make_table(rows) -> pa.Table:
    users, times = [list(c) for c in zip(*rows, strict=True)] if rows else ([], [])
    count = len(rows)
    return pa.table([users, [f"i{n}" for n in range(count)], np.arange(count, dtype=np.float32), times, range(count)],
                    schema=SCHEMA)


def plain(table: pa.Table, bound: int) -> dict[str, list[int]]:
    """User -> positions of the last rows, oldest first."""
    frame = table.to_pandas().sort_values(["time", "position"])
    return {user: rows.position.tolist()[-bound:] for user, rows in frame.groupby("user")}


def by_user(table: pa.Table) -> dict[str, list[int]]:
    return {user: rows.position.tolist() for user, rows in table.to_pandas().groupby("user", sort=False)}


@settings(deadline=None, max_examples=80)
@given(rows=ROWS, bound=st.integers(1, 5), cuts=st.lists(st.integers(0, 40), max_size=4), seed=st.integers(0, 9))
def test_any_cut_and_order_give_the_same_last_rows(rows, bound, cuts, seed):
    table = make_table(rows)
    shuffled = table.take(pa.array(np.random.default_rng(seed).permutation(len(rows)), pa.int64()))
    ends = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    pieces = [shuffled.slice(a, b - a) for a, b in itertools.pairwise(ends)]
    combine = LatestRows(bound, SCHEMA)
    half = len(pieces) // 2
    accumulators = []
    for part in (pieces[:half], pieces[half:]):
        accumulator = combine.create_accumulator()
        for piece in part:
            accumulator = combine.add_input(accumulator, piece)
        accumulators.append(accumulator)
    found = combine.extract_output(combine.merge_accumulators(accumulators[::-1]))
    assert by_user(found) == plain(table, bound)
    users = found["user"].to_pylist()
    assert len(set(users)) == 1 + sum(a != b for a, b in itertools.pairwise(users)) if users else True


@settings(deadline=None, max_examples=40)
@given(rows=ROWS, bound=st.integers(1, 5))
def test_keeping_twice_is_keeping_once(rows, bound):
    once = keep_latest(make_table(rows), bound)
    assert keep_latest(once, bound).equals(once)
    assert by_user(sort_rows(once)) == plain(make_table(rows), bound)


def test_an_accumulator_stays_small(monkeypatch):
    monkeypatch.setattr(latest_rows, "_SLACK_ROWS", 50)
    combine = LatestRows(5, SCHEMA)
    accumulator, most = combine.create_accumulator(), 0
    for n in range(200):
        accumulator = combine.add_input(accumulator, make_table([("a", n)] * 40))
        most = max(most, accumulator[1])
    assert most <= 50 + 2 * 5 + 40
    assert combine.extract_output(accumulator)["time"].to_pylist() == [199] * 5


def pandas_hash(text: str) -> int:
    return int(pd.util.hash_array(np.array([text], object), categorize=False)[0] % (1 << 62))


@pytest.mark.parametrize("ids", [pa.array([str(i) for i in range(5000)]), pa.array(range(5000), pa.int64())])
def test_users_are_shared_out_evenly_and_alone(ids):
    shards = shard_of(ids, 8)
    counts = np.bincount(shards, minlength=8)
    assert counts.min() > 500 and counts.max() < 750
    order = np.random.default_rng(0).permutation(5000)
    assert (shard_of(ids.take(pa.array(order)), 8) == shards[order]).all()


def test_the_hash_is_the_same_everywhere():
    # Staged files outlive the process and the version that wrote them.
    assert shard_of(pa.array(["a", "b", "a"]), 1 << 62).tolist() == [13950350942979735504 % (1 << 62),
                                                                     pandas_hash("b"), 13950350942979735504 % (1 << 62)]
    assert shard_of(pa.array([0, 1, -1], pa.int64()), 1 << 62).tolist() == [
        0xE220A8397B1DCDAF % (1 << 62), 0x910A2DEC89025CC1 % (1 << 62), 0xE4D971771B652C20 % (1 << 62)]
