import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta import config
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.draw import draw_split
from tfmeta.data.splits.explicit import read_explicit
from tfmeta.data.splits.random_order import id_hash, pair_hash, random_key
from tfmeta.data.splits.split import COLD, VALIDATION, WARM
from tfmeta.errors import ConfigError, DataError


def make_rows(users=60, items=80, density=0.5, seed=0):
    """Interactions of random (user, item) pairs, each pair at most once, in random order, with distinct
    times.
    """
    rng = np.random.default_rng([seed])
    user, item = np.nonzero(rng.random((users, items)) < density)
    order = rng.permutation(len(user))
    return {
        "user_ids": np.arange(1000, 1000 + users),
        "item_ids": np.array([f"i{n}" for n in range(items)]),
        "user_row": user[order].astype(np.int32),
        "item_row": item[order].astype(np.int32),
        "time": rng.permutation(len(user)).astype(np.int64),
    }


def segments(values, length):
    return np.split(values, np.cumsum(length)[:-1])


def test_every_row_is_counted_once_and_cells_are_pure():
    rows = make_rows()
    split = draw_split(SplitConfig(), **rows)
    counts = split.row_counts(user_row=rows["user_row"], item_row=rows["item_row"], config=SplitConfig())
    total = counts["train"] + sum(sum(counts[p].values()) for p in ("test", "validation", "unused"))
    assert total == len(rows["user_row"])
    assert sum(sum(c.values()) for c in counts["cells"].values()) == total
    user, item = split.user_partition[rows["user_row"]], split.item_partition[rows["item_row"]]
    assert (user[split.train] == WARM).all() and (item[split.train] == WARM).all()
    assert not (split.train & split.withheld).any()
    wanted = {
        "user_cold": (True, False),
        "item_cold": (False, True),
        "both_cold": (True, True),
        "warm": (False, False),
    }
    for part, held, other in (("test", [COLD], [WARM, VALIDATION]), ("validation", [VALIDATION], [WARM])):
        tasks = getattr(split, part)
        assert len(tasks)
        for state, (user_held, item_held) in wanted.items():
            chosen = np.repeat(tasks.state == state, tasks.query_length)
            query = tasks.query[chosen]
            if part == "validation" and state == "warm":
                assert not len(query)
                continue
            assert np.isin(user[query], held if user_held else other).all()
            assert np.isin(item[query], held if item_held else other).all()
        evaluated = np.concatenate(
            [tasks.query, tasks.support[np.repeat(tasks.state != "warm", tasks.support_length)]]
        )
        assert not split.train[evaluated].any()
    assert not split.withheld[split.validation.query].any()
    assert not split.withheld[split.validation.support].any()


def test_shares_are_exact():
    split = draw_split(
        SplitConfig(
            cold_user_share=0.25, cold_item_share=0.1, validation_user_share=0.2, validation_item_share=0.5
        ),
        **make_rows(),
    )
    assert np.bincount(split.user_partition).tolist() == [36, 9, 15]
    assert np.bincount(split.item_partition).tolist() == [36, 36, 8]


def test_the_test_is_the_same_with_and_without_validation():
    rows = make_rows()
    settings_ = SplitConfig()
    held, refit = draw_split(settings_, **rows), draw_split(settings_.without_validation(), **rows)
    for field in dataclasses.fields(held.test):
        np.testing.assert_array_equal(getattr(held.test, field.name), getattr(refit.test, field.name))
    np.testing.assert_array_equal(held.withheld, refit.withheld)
    assert len(refit.validation) == 0 and (refit.user_partition != VALIDATION).all()
    assert refit.train.sum() > held.train.sum()
    cold = (refit.user_partition[rows["user_row"]] == COLD) | (refit.item_partition[rows["item_row"]] == COLD)
    np.testing.assert_array_equal(refit.train, ~cold & ~refit.withheld)


@pytest.mark.parametrize("mode", ["random", "temporal"])
def test_bounds_apply_within_a_state(mode):
    rows = make_rows(users=80, items=120, density=0.4, seed=3)
    settings_ = SplitConfig(
        mode=mode, min_interactions=12, max_interactions=40, cold_item_share=0.3, cold_user_share=0.3
    )
    split = draw_split(settings_, **rows)
    user, item = split.user_partition[rows["user_row"]], split.item_partition[rows["item_row"]]
    for state, mask in {
        "user_cold": (user == COLD) & (item != COLD),
        "item_cold": (user != COLD) & (item == COLD),
        "both_cold": (user == COLD) & (item == COLD),
    }.items():
        count = np.bincount(rows["user_row"][mask], minlength=80)
        expected = np.flatnonzero((count >= 12) & (count <= 40))
        chosen = split.test.state == state
        np.testing.assert_array_equal(np.unique(split.test.user_row[chosen]), expected)
        length = split.test.support_length[chosen] + split.test.query_length[chosen]
        np.testing.assert_array_equal(length, count[split.test.user_row[chosen]])
    # The history of a warm user beyond the bound is trained on and asked about.
    warm = split.test.state == "warm"
    assert (split.test.support_length[warm] + 10 > 40).any()


def test_random_splits_redraw_the_same_rows():
    split = draw_split(SplitConfig(num_splits=4), **make_rows())
    test = split.test
    query, support = segments(test.query, test.query_length), segments(test.support, test.support_length)
    chosen = np.flatnonzero(test.state == "user_cold").reshape(-1, 4)
    assert (test.split[chosen] == np.arange(4)).all()
    for draws in chosen:
        assert len(set(test.user_row[draws])) == 1
        whole = [np.sort(np.concatenate([query[d], support[d]])) for d in draws]
        assert all((w == whole[0]).all() for w in whole)
        assert len({tuple(sorted(query[d])) for d in draws}) > 1
        assert len({tuple(query[d]) for d in draws}) == 4
    in_warm = test.state == "warm"
    assert in_warm.any() and (test.split[in_warm] == 0).all()
    warm_support = test.support[np.repeat(in_warm, test.support_length)]
    # Before validation items are held out, these are the training rows.
    assert (
        split.train[warm_support]
        | (split.item_partition[make_rows()["item_row"][warm_support]] == VALIDATION)
    ).all()


def test_random_draws_are_uniform():
    """Over many splits every row of a user is in the query with probability query_size / n."""
    rows = make_rows(users=3, items=30, density=1.1)
    split = draw_split(
        SplitConfig(
            cold_user_share=0.34,
            cold_item_share=0.0,
            validation_user_share=0.0,
            validation_item_share=0.0,
            warm_test_user_share=0.0,
            num_splits=3000,
        ),
        **rows,
    )
    count = np.bincount(split.test.query, minlength=90)
    count = count[count > 0]
    assert len(count) == 30
    assert abs(count.mean() - 1000) < 1e-9 and np.abs(count - 1000).max() < 5 * np.sqrt(3000 / 9 * 2)


def test_temporal_takes_the_latest():
    rows = make_rows(density=0.7)
    split = draw_split(SplitConfig(mode="temporal"), **rows)
    first = pd.Series(rows["time"]).groupby(rows["user_row"]).min().to_numpy()
    assert first[split.user_partition == COLD].min() > first[split.user_partition != COLD].max()
    first_item = pd.Series(rows["time"]).groupby(rows["item_row"]).min().to_numpy()
    assert first_item[split.item_partition == COLD].min() > first_item[split.item_partition != COLD].max()
    time = rows["time"]
    tasks = split.test
    for query, support in zip(
        segments(tasks.query, tasks.query_length), segments(tasks.support, tasks.support_length), strict=True
    ):
        order = time[np.concatenate([support, query])]
        assert (np.diff(order) > 0).all()


def test_temporal_ties_keep_the_order_of_the_rows():
    rows = make_rows(users=3, items=20, density=1.1)
    rows["time"] = np.repeat([5, 6], 30) + (rows["user_row"] == 0)
    split = draw_split(
        SplitConfig(mode="temporal", cold_user_share=0.34, cold_item_share=0.0, warm_test_user_share=0.0),
        **rows,
    )
    whole = np.concatenate([split.test.support, split.test.query])
    assert len(whole) == 20 and (np.diff(whole) > 0).all()


def test_temporal_without_times_is_an_error():
    with pytest.raises(DataError, match="requires a time"):
        draw_split(
            SplitConfig(mode="temporal"), **(make_rows() | {"time": np.zeros(len(make_rows()["time"]))})
        )


def test_temporal_with_ranks_within_users_is_an_error():
    rows = make_rows()
    rank = pd.Series(rows["time"]).groupby(rows["user_row"]).rank().to_numpy(np.int64)
    with pytest.raises(DataError, match="all 60 users begin at 1"):
        draw_split(SplitConfig(mode="temporal"), **(rows | {"time": rank}))


def test_nothing_left_to_train_on_is_an_error():
    rows = make_rows(users=2, items=3, density=1.1)
    with pytest.raises(DataError, match="no training rows"):
        draw_split(SplitConfig(cold_user_share=0.9), **rows)


def by_id(rows, split):
    """The split in terms of ids, so that runs with other row orders compare."""
    user, item = rows["user_ids"][rows["user_row"]], rows["item_ids"][rows["item_row"]]
    tasks = [
        (s, rows["user_ids"][u], n, item[q].tolist(), item[x].tolist())
        for s, u, n, q, x in zip(
            split.test.state,
            split.test.user_row,
            split.test.split,
            segments(split.test.query, split.test.query_length),
            segments(split.test.support, split.test.support_length),
            strict=True,
        )
    ]
    return {"train": sorted(zip(user[split.train], item[split.train], strict=True)), "tasks": sorted(tasks)}


def test_the_order_of_rows_and_ids_does_not_matter():
    rows = make_rows()
    rng = np.random.default_rng(4)
    user, item, row = rng.permutation(60), rng.permutation(80), rng.permutation(len(rows["user_row"]))
    shuffled = {
        "user_ids": rows["user_ids"][user],
        "item_ids": rows["item_ids"][item],
        "user_row": np.argsort(user)[rows["user_row"]][row],
        "item_row": np.argsort(item)[rows["item_row"]][row],
        "time": rows["time"][row],
    }
    for mode in ("random", "temporal"):
        settings_ = SplitConfig(mode=mode)
        assert by_id(rows, draw_split(settings_, **rows)) == by_id(
            shuffled, draw_split(settings_, **shuffled)
        )


def test_seeds_differ_and_repeat():
    rows = make_rows()
    one, again, two = (draw_split(SplitConfig(seed=s), **rows) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.train, again.train)
    np.testing.assert_array_equal(one.test.query, again.test.query)
    assert (one.user_partition != two.user_partition).any()


def test_the_same_seed_gives_the_same_split_in_another_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import hashlib, test_splits as t\n"
        "s = t.draw_split(t.SplitConfig(seed=7), **t.make_rows())\n"
        "parts = (s.train, s.test.query, s.test.support)\n"
        "print(hashlib.sha256(b''.join(p.tobytes() for p in parts)).hexdigest())"
    )
    folder = pathlib.Path(__file__).resolve().parent
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder.parents[1],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
        ).stdout
        for seed in ("0", "12345")
    }
    assert len(digests) == 1


def test_keys_are_pinned():
    """A change of these numbers changes every published split."""
    keys = random_key(id_hash(["1", "2", "ü"]), seed=3, stream=1)
    assert (
        keys.tolist()
        == random_key(id_hash(np.array(["1", "2", "ü"], dtype=object)), seed=3, stream=1).tolist()
    )
    assert id_hash(np.array([1, 2])).tolist() == id_hash(["1", "2"]).tolist()
    assert [hex(k) for k in keys] == ["0xadbfc32cf20b8d3a", "0xf20a6b95db53966", "0x3f73b9cdafc47508"]
    assert pair_hash(keys[:1], keys[1:2]) != pair_hash(keys[1:2], keys[:1])


def test_users_without_interactions_are_cold():
    rows = make_rows()
    rows["user_ids"] = np.append(rows["user_ids"], 9999)
    rows["item_ids"] = np.append(rows["item_ids"], "new")
    split = draw_split(SplitConfig(), **rows)
    assert split.user_partition[-1] == COLD and split.item_partition[-1] == COLD
    assert (split.user_partition[:-1] == COLD).sum() == 12


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 25),
    st.integers(1, 25),
    st.floats(0.1, 1.0),
    st.sampled_from(["random", "temporal"]),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_any_data_is_split_without_losing_a_row(users, items, density, mode, query_size, extra):
    rows = make_rows(users, items, density, seed=users * 31 + items)
    settings_ = SplitConfig(
        mode=mode,
        query_size=query_size,
        min_interactions=query_size + 1,
        max_interactions=query_size + 1 + extra,
    )
    try:
        split = draw_split(settings_, **rows)
    except DataError:
        return
    counts = split.row_counts(user_row=rows["user_row"], item_row=rows["item_row"], config=settings_)
    assert counts["train"] + sum(sum(counts[p].values()) for p in ("test", "validation", "unused")) == len(
        rows["user_row"]
    )
    for tasks in (split.test, split.validation):
        assert (tasks.query_length == query_size).all() and (tasks.support_length >= 1).all()
        assert (
            len(tasks.query) == tasks.query_length.sum() and len(tasks.support) == tasks.support_length.sum()
        )
        owner = rows["user_row"][tasks.support]
        np.testing.assert_array_equal(owner, np.repeat(tasks.user_row, tasks.support_length))
        np.testing.assert_array_equal(
            rows["user_row"][tasks.query], np.repeat(tasks.user_row, tasks.query_length)
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cold_user_shared": 0.1}, "Did you mean 'cold_user_share'"),
        ({"cold_user_share": 1.0}, "'cold_user_share' requires a share"),
        ({"min_interactions": 10}, "more than query_size 10"),
        ({"max_interactions": 12}, "at least min_interactions 13"),
        ({"mode": "temporal", "num_splits": 3}, "'num_splits' requires 1"),
        ({"mode": "tempral"}, "Did you mean 'temporal'"),
        ({"tasks": "x"}, "'tasks' requires mode explicit"),
        ({"mode": "explicit", "cold_users": "x"}, "both cold_users and cold_items"),
        ({"num_splits": 0}, "at least 1"),
    ],
)
def test_wrong_settings_say_what_is_required(values, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(SplitConfig, values)


@pytest.fixture
def files(tmp_path):
    rows = make_rows(users=12, items=40, density=1.1)
    pd.DataFrame({"user_id": [1000, 1001]}).to_csv(tmp_path / "users.csv", index=False)
    pd.DataFrame({"item_id": [f"i{n}" for n in range(15)]}).to_parquet(tmp_path / "items.parquet")
    warm = [f"i{n}" for n in range(15, 40)]
    cold = [f"i{n}" for n in range(15)]
    pd.DataFrame(
        {
            "state": ["user_cold", "item_cold", "both_cold", "warm"],
            "user_id": [1000, 1005, 1001, 1007],
            "split": [0, 0, 3, 0],
            "items": [warm[::-1], cold, cold[:12], warm[:11]],
        }
    ).to_parquet(tmp_path / "tasks.parquet")
    pd.DataFrame({"kind": ["user", "item", "item"], "id": ["1003", "i20", "i21"]}).to_csv(
        tmp_path / "validation.csv", index=False
    )
    return rows, SplitConfig(
        mode="explicit",
        cold_users=str(tmp_path / "users.csv"),
        cold_items=str(tmp_path / "items.parquet"),
        tasks=str(tmp_path / "tasks.parquet"),
        validation=str(tmp_path / "validation.csv"),
    )


def explicit_split(rows, settings_):
    names = ("user_ids", "item_ids", "user_row", "item_row")
    return draw_split(settings_, **rows, explicit=read_explicit(settings_, **{n: rows[n] for n in names}))


def test_explicit_files_are_followed_exactly(files):
    rows, settings_ = files
    split = explicit_split(rows, settings_)
    assert np.flatnonzero(split.user_partition == COLD).tolist() == [0, 1]
    assert np.flatnonzero(split.item_partition == COLD).tolist() == list(range(15))
    assert np.flatnonzero(split.user_partition == VALIDATION).tolist() == [3]
    assert np.flatnonzero(split.item_partition == VALIDATION).tolist() == [20, 21]
    assert split.test.state.tolist() == ["user_cold", "item_cold", "both_cold", "warm"]
    assert split.test.user_row.tolist() == [0, 5, 1, 7] and split.test.split.tolist() == [0, 0, 3, 0]
    query = segments(rows["item_row"][split.test.query], split.test.query_length)
    support = segments(rows["item_row"][split.test.support], split.test.support_length)
    assert query[0].tolist() == list(range(39, 29, -1)) and support[0].tolist() == list(range(29, 14, -1))
    assert query[3].tolist() == list(range(15, 25)) and support[3].tolist() == [25]
    held = split.withheld
    assert held.sum() == 10 and set(rows["user_row"][held]) == {7} and not split.train[held].any()
    # The withheld ratings of user 7 on the validation items are in no validation task.
    assert not held[split.validation.query].any() and not held[split.validation.support].any()
    refit = explicit_split(rows, settings_.without_validation())
    assert not refit.train[held].any() and refit.train.sum() == 10 * 25 - 10


def test_explicit_without_tasks_draws_them(files):
    rows, settings_ = files
    split = explicit_split(rows, dataclasses.replace(settings_, tasks=None, num_splits=2))
    assert np.flatnonzero(split.user_partition == COLD).tolist() == [0, 1]
    assert set(split.test.user_row[split.test.state == "user_cold"]) == {0, 1}
    assert (split.test.state == "item_cold").sum() == 20


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        (
            "state",
            0,
            "item_cold",
            "row 0 of state item_cold contains user '1000' with item 'i39', which is no item_cold",
        ),
        ("user_id", 0, 1005, "row 0 of state user_cold contains user '1005'"),
        ("user_id", 3, 1000, "row 3 of state warm contains user '1000'"),
        ("user_id", 1, 77, "names user '77'"),
        ("items", 1, ["i1"] * 11, "row 1 names the same item twice"),
        ("items", 1, ["i1"], "at least query_size = 10 items per task; row 1 has 1"),
        ("items", 1, ["nope"] * 11, "names item 'nope'"),
        ("state", 2, "bothcold", "Did you mean 'both_cold'"),
    ],
)
def test_a_wrong_tasks_file_is_refused(files, column, row, value, message):
    rows, settings_ = files
    frame = pd.read_parquet(settings_.tasks)
    values = frame[column].tolist()
    values[row] = value
    frame[column] = values
    frame.to_parquet(settings_.tasks)
    with pytest.raises(DataError, match=message):
        explicit_split(rows, settings_)


def test_an_unrated_item_is_named(files):
    rows, settings_ = files
    drop = ~((rows["user_row"] == 5) & (rows["item_row"] == 3))
    rows = {n: v[drop] if n in ("user_row", "item_row", "time") else v for n, v in rows.items()}
    with pytest.raises(DataError, match="row 1 asks about item 'i3', which user '1005' did not rate"):
        explicit_split(rows, settings_)


def test_other_explicit_errors(files, tmp_path):
    rows, settings_ = files
    with pytest.raises(DataError, match="published without a partition"):
        explicit_split(rows, SplitConfig(mode="explicit"))
    with pytest.raises(DataError, match="does not exist"):
        explicit_split(rows, dataclasses.replace(settings_, validation=str(tmp_path / "absent.csv")))
    pd.DataFrame({"kind": ["user"], "id": [1000]}).to_csv(tmp_path / "validation.csv", index=False)
    with pytest.raises(DataError, match="user '1000', which is cold already"):
        explicit_split(rows, settings_)
    pd.DataFrame({"kind": ["usr"], "id": [1000]}).to_csv(tmp_path / "validation.csv", index=False)
    with pytest.raises(DataError, match="received 'usr' in row 0"):
        explicit_split(rows, settings_)
    pd.DataFrame({"knd": ["user"], "id": [1000]}).to_csv(tmp_path / "validation.csv", index=False)
    with pytest.raises(DataError, match="requires a column 'kind'"):
        explicit_split(rows, settings_)
    (tmp_path / "items.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="not a readable table"):
        explicit_split(rows, settings_)
