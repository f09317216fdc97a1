import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from prepare_helpers import REPOSITORY, hand_made, need, small_synthetic

from tfmeta.cli import main
from tfmeta.data.prepare import prepare
from tfmeta.data.prepare_dataset import prepare_dataset
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError, DataError
from tfmeta.io import filesystem

SPLIT = SplitConfig(query_size=4, min_interactions=6, num_splits=3, validation_item_share=0.3)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    raw, truth = small_synthetic()
    return prepare(raw=raw, out=str(tmp_path_factory.mktemp("prepared") / "out"), split=SPLIT, oracle=truth.oracle)


def test_the_directory_holds_what_it_says(prepared):
    raw, _ = small_synthetic()
    assert sorted(filesystem.walk(prepared.path)) == sorted([*prepared.manifest["files"], "manifest.json"])
    assert prepared.users["user_id"].tolist() == raw.users["user_id"].tolist()
    train = prepared.train
    order = np.lexsort((train.time, train.user_row))
    np.testing.assert_array_equal(order, np.arange(len(train)))
    assert train.label.dtype == np.float32 and train.user_row.dtype == np.int32 and train.time.dtype == np.int64
    label = {(u, i): v for u, i, v in zip(raw.interactions.user_row, raw.interactions.item_row,
                                          raw.interactions.label, strict=True)}
    assert all(label[u, i] == v for u, i, v in zip(train.user_row, train.item_row, train.label, strict=True))
    for part in ("test", "validation"):
        tasks = prepared.tasks(part)
        assert len(tasks)
        for side in ("query", "support"):
            items, labels = getattr(tasks, f"{side}_item"), getattr(tasks, f"{side}_label")
            task, place = np.nonzero(items >= 0)
            assert (np.bincount(task, minlength=len(tasks)) == getattr(tasks, f"{side}_length")).all()
            assert all(label[tasks.user_row[t], items[t, p]] == labels[t, p]
                       for t, p in zip(task[::7], place[::7], strict=True))
    assert (prepared.users["partition"] == "cold").sum() == 24
    assert prepared.summary["users"]["cold"] == 24 and prepared.summary["dataset"] == "custom"
    rows = prepared.summary["rows"]
    assert rows["train"] == len(train)
    assert rows["train"] + sum(sum(rows[p].values()) for p in ("test", "validation", "unused")) == len(label)


def test_raw_features_come_back(tmp_path):
    from tfmeta.data.raw_columns import raw_columns

    raw, _ = hand_made()
    split = SplitConfig(query_size=1, min_interactions=2, cold_user_share=0.0, cold_item_share=0.0,
                        validation_user_share=0.0, validation_item_share=0.0, warm_test_user_share=0.0)
    prepared = prepare(raw=raw, out=str(tmp_path / "out"), split=split)
    spec, items = prepared.feature_spec, prepared.items
    assert items["item_id"].tolist() == list("abcde") and items["name"].tolist() == list("ABCDE")
    assert prepared.users["user_id"].tolist() == [2, 3, 4, 10]
    columns = raw_columns(items, spec.item_features)
    assert columns["cast"].tolist() == [["x", "y", ""], ["x", "z", ""], ["x", "y", ""], ["", "", ""], ["cold", "", ""]]
    assert columns["year"].tolist() == [1999, 2000, 1999, -1, 1950]
    np.testing.assert_array_equal(columns["vector"], [[1, 2], [3, 2], [np.nan] * 2, [5, 2], [999, 999]])
    np.testing.assert_array_equal(columns["price"], np.float32([1, 3, np.nan, 5, 1e6]))
    assert columns["plot"].tolist() == ["one two", "", "three", "four", "cold plot"]
    np.testing.assert_array_equal(raw_columns(prepared.users, spec.user_features)["age"],
                                  np.float32([40, np.nan, 1000, 20]))
    # Nothing to evaluate is a task set of no tasks, not an error.
    assert len(prepared.tasks("validation")) == 0 and len(prepared.tasks("test")) == 0
    assert prepared.oracle() is None


def test_twice_gives_the_same_bytes_in_any_process(tmp_path):
    code = ("import sys\nfrom tfmeta.data.prepare_dataset import prepare_dataset\n"
            "from tfmeta.data.synthetic.synthetic_config import SyntheticConfig\n"
            "p = prepare_dataset(dataset='synthetic', out=sys.argv[1],"
            " synthetic=SyntheticConfig(users=80, items=60, ratings_per_user=30))\n"
            "print(p.training_fingerprint())\n")
    manifests, prints = [], []
    for seed in ("1", "77"):
        out = str(tmp_path / seed)
        done = subprocess.run([sys.executable, "-c", code, out], capture_output=True, text=True, check=True,
                              cwd=REPOSITORY, env={**os.environ, "PYTHONHASHSEED": seed})
        prints.append(done.stdout)
        files = PreparedData(out).manifest["files"]
        manifests.append({n: e["sha256"] for n, e in files.items() if n != "summary.json"})
    assert manifests[0] == manifests[1] and prints[0] == prints[1]


def test_another_seed_gives_another_training_set(tmp_path, prepared):
    raw, _ = small_synthetic()
    other = prepare(raw=raw, out=str(tmp_path / "out"), split=SplitConfig(**{**SPLIT.__dict__, "seed": 1}))
    assert other.training_fingerprint() != prepared.training_fingerprint()


def test_k_shot_is_nested(prepared):
    tasks = prepared.tasks("test")
    three, five = tasks.truncate(3), tasks.truncate(5)
    np.testing.assert_array_equal(five.truncate(3).support_item, three.support_item)
    np.testing.assert_array_equal(three.query_item, tasks.query_item)


@pytest.mark.parametrize("where", ["files", "rename"])
def test_a_crash_in_the_middle_leaves_nothing(tmp_path, monkeypatch, where):
    raw, _ = small_synthetic()
    if where == "rename":
        monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    else:
        original, opened = filesystem.open_file, []

        def failing(path, mode="rb"):
            opened.append(path)
            if len(opened) == 4:
                raise OSError("disk")
            return original(path, mode)

        monkeypatch.setattr(filesystem, "open_file", failing)
    with pytest.raises(OSError):
        prepare(raw=raw, out=str(tmp_path / "out"), split=SPLIT)
    assert os.listdir(tmp_path) == []


def test_a_remote_directory(prepared):
    raw, truth = small_synthetic()
    remote = prepare(raw=raw, out="ram://test_prepare/out", split=SPLIT, oracle=truth.oracle)
    assert remote.training_fingerprint() == prepared.training_fingerprint()
    assert len(remote.tasks("test")) == len(prepared.tasks("test"))


def test_an_existing_directory_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(DataError, match="exists already"):
        prepare_dataset(dataset="synthetic", out=str(tmp_path / "out"))
    prepare_dataset(dataset="synthetic", out=str(tmp_path / "out"), overwrite=True,
                    synthetic=SyntheticConfig(users=60, items=50, ratings_per_user=25))
    assert not (tmp_path / "out" / "mine").exists()


def csv_source(folder, *, bad=0):
    rng = np.random.default_rng([8])
    rows = [(f"u{u}", f"i{i}", int(rng.integers(1, 6)), n) for n, (u, i) in enumerate(
        (u, i) for u in range(30) for i in range(40))]
    frame = pd.DataFrame(rows, columns=["user", "item", "stars", "time"])
    frame["stars"] = frame["stars"].astype(object)
    frame.loc[:bad - 1, "stars"] = "many"
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / "ratings.csv", index=False)
    (folder / "schema.yaml").write_text(
        "label: {name: stars}\nuser_id: user\nitem_id: item\ntimestamp: time\ninteractions: ratings.csv\n")
    return ["--source", str(folder), "--schema", str(folder / "schema.yaml")]


def test_the_command_prepares_csv(tmp_path, capsys):
    source = csv_source(tmp_path / "raw", bad=3)
    out = str(tmp_path / "out")
    (tmp_path / "split.yaml").write_text("mode: temporal\ncold_user_share: 0.1\nmin_interactions: 13\n")
    code = main(["data", "prepare", "--dataset", "csv", *source, "--out", out, "--split",
                 str(tmp_path / "split.yaml"), "--set", "cold_item_share=0.5", "--set", "vocabulary.min_count=2",
                 "--seed", "3", "--json"])
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    prepared = PreparedData(out)
    assert result["training_fingerprint"] == prepared.training_fingerprint() and result["path"] == out
    assert result["split"]["mode"] == "temporal" and result["split"]["seed"] == 3
    assert result["split"]["cold_item_share"] == 0.5 and result["users"]["cold"] == 3
    assert result["vocabulary"]["min_count"] == 2
    assert result["read"]["rejected"] == 3 and len(prepared._frame("rejected.parquet")) == 3
    assert main(["data", "prepare", "--dataset", "csv", *source, "--out", f"{out}2"]) == 0
    text = capsys.readouterr().out
    assert "1,200 interactions: 1,197 kept, 0 duplicates, 3 rejected" in text and "user_cold" in text
    assert main(["data", "prepare", "--dataset", "csv", *source, "--out", f"{out}3", "--no-validation"]) == 0
    assert "validation  no tasks" in capsys.readouterr().out


def test_too_many_bad_rows_are_kept_for_inspection(tmp_path, capsys):
    source = csv_source(tmp_path / "raw", bad=500)
    out = str(tmp_path / "new" / "out")
    assert main(["data", "prepare", "--dataset", "csv", *source, "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{out}.rejected.parquet" in error
    rejected = pd.read_parquet(f"{out}.rejected.parquet")
    assert len(rejected) == 500 and list(rejected.columns) == ["file", "row", "reason", "content"]
    assert not os.path.exists(out)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--dataset", "csv"], "requires a source"),
    (["--dataset", "csv", "--source", "x", "--download"], "cannot be downloaded"),
    (["--dataset", "ml-1m", "--source", "/absent"], "is not a directory"),
    (["--dataset", "synthetic", "--source", "x"], "requires no source"),
    (["--dataset", "synthetic", "--set", "cold_user_shar=1"], "Did you mean 'cold_user_share'"),
    (["--dataset", "synthetic", "--set", "synthetic.user=1"], "Did you mean 'users'"),
    (["--dataset", "synthetic", "--set", "vocabulary.min_count=0"], "at least 1"),
    (["--dataset", "synthetic", "--split", "absent.yaml"], "does not exist"),
    (["--dataset", "synthetic", "--cold-users", "x"], "both cold_users and cold_items"),
    (["--dataset", "synthetic", "--validation", "x", "--no-validation"], "exclude each other"),
    (["--dataset", "csv", "--source", "x", "--set", "synthetic.users=10"], "go with data set synthetic"),
])
def test_wrong_commands_get_one_line(tmp_path, capsys, arguments, message):
    assert main(["data", "prepare", *arguments, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_unknown_data_sets_are_named(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'ml-1m'"):
        prepare_dataset(dataset="ml1m", out=str(tmp_path / "out"))


def movielens_1m(out, validation):
    from tfmeta.data.prepare_dataset import default_split

    source, tasks = need("data", "ml-1m"), need("peers", "ml-1m_tasks.parquet")
    split = default_split("ml-1m", source)
    assert split.mode == "explicit"
    values = {**split.__dict__, "tasks": tasks, "validation": need("peers", "ml-1m_validation.parquet")}
    split = SplitConfig(**values)
    return prepare_dataset(dataset="ml-1m", source=source, out=str(out),
                           split=split if validation else split.without_validation())


@pytest.mark.parametrize("validation", [True, False])
def test_movielens_1m_with_the_fixed_test(tmp_path, validation):
    prepared = movielens_1m(tmp_path / "out", validation)
    tasks = prepared.tasks("test")
    given = pd.read_parquet(need("peers", "ml-1m_tasks.parquet"))
    assert len(tasks) == len(given) == 42_992
    users = {s: len(np.unique(tasks.user_row[tasks.state == s])) for s in tasks.states}
    assert users == {"warm": 452, "user_cold": 668, "item_cold": 2863, "both_cold": 723}
    np.testing.assert_array_equal(tasks.state, given["state"].to_numpy(dtype=str))
    np.testing.assert_array_equal(tasks.split, given["split"])
    np.testing.assert_array_equal(prepared.users["user_id"].to_numpy()[tasks.user_row], given["user_id"])
    items = prepared.items["item_id"].to_numpy()
    for row in range(0, len(given), 1009):
        found = np.concatenate([tasks.query_item[row, :tasks.query_length[row]],
                                tasks.support_item[row, :tasks.support_length[row]]])
        assert tasks.query_length[row] == 10 and items[found].tolist() == list(given["items"].iloc[row])
    rows = prepared.summary["rows"]
    cells = rows["cells"]
    cold = {(u, i): sum(cells[f"{a} users"][f"{b} items"] for a in (("cold",) if u else ("warm", "validation"))
                        for b in (("cold",) if i else ("warm", "validation"))) for u in (0, 1) for i in (0, 1)}
    assert cold == {(0, 0): 640_448, (0, 1): 157_456, (1, 0): 163_702, (1, 1): 38_603}
    train = prepared.train
    if validation:
        assert prepared.summary["users"]["validation"] == 483 and prepared.summary["items"]["validation"] == 295
        assert prepared.tasks("validation").states == ("user_cold", "item_cold", "both_cold")
    else:
        assert len(train) == 640_448 - 4520 and len(prepared.tasks("validation")) == 0
    partition = prepared.users["partition"].to_numpy(), prepared.items["partition"].to_numpy()
    assert set(partition[0][train.user_row]) == set(partition[1][train.item_row]) == {"warm"}
    warm = tasks.in_state("warm")
    withheld = set(zip(np.repeat(warm.user_row, 10), warm.query_item.ravel(), strict=True))
    assert len(withheld) == 4520
    width = len(items)
    assert not np.isin([u * width + i for u, i in withheld], train.user_row.astype(np.int64) * width + train.item_row
                       ).any()
    seconds = prepared.summary["seconds"]
    assert sum(seconds.values()) < 60  # 2 s on two idle cores.


def test_movielens_1m_without_times_of_all_users_is_not_temporal(tmp_path):
    with pytest.raises(DataError, match="timestamps of all users"):
        prepare_dataset(dataset="ml-1m", source=need("data", "ml-1m"), out=str(tmp_path / "out"),
                        split=SplitConfig(mode="temporal"))
