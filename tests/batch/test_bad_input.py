"""What cannot be used: rows, files, columns, models. And users with more than memory has room for."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from batch_cases import make_candidates, make_log, make_users, read_parts, run_job
from export_cases import BOUND

from tfmeta import cli
from tfmeta.errors import ConfigError, DataError, ExportError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    make_log().to_parquet(folder / "log.parquet")
    make_candidates().to_parquet(folder / "candidates.parquet")
    make_users().to_parquet(folder / "users.parquet")
    return folder


def test_bad_rows_are_quarantined_and_the_others_scored(files, model, tmp_path):
    log = make_log().astype(object)
    bad = pd.DataFrame({"user_id": ["x", 5, 5, 5, 5, ""], "movie_id": ["m1", "", "m1", "m1", "m1", "m1"],
                        "rating": ["3", "3", "high", "inf", "3", "3"], "timestamp": [1, 1, 1, 1, "noon", 1]})
    pd.concat([bad[:3], log, bad[3:]]).to_csv(tmp_path / "log.csv", index=False)
    with open(tmp_path / "log.csv", "a") as file:
        file.write("1,m1\n")
    candidates = make_candidates()
    more = pd.DataFrame({"user_id": [4, None], "movie_id": [None, "m1"]})
    pd.concat([candidates, more]).to_parquet(tmp_path / "candidates.parquet")
    summary = run_job(model, tmp_path / "out", interactions=tmp_path / "log.csv",
                      candidates=tmp_path / "candidates.parquet", shards=2)
    assert summary["rejected"]["interactions"] == {"bad_user": 1, "missing_user": 1, "missing_item": 1, "bad_label": 2,
                                                   "bad_time": 1, "too_few_columns": 1}
    assert sum(summary["rejected"]["interactions"].values()) == len(bad) + 1
    assert summary["rejected"]["candidates"] == {"missing_item": 1, "missing_user": 1}
    assert summary["rows"] + 2 == summary["read"]["candidates"] == len(candidates) + 2
    quarantine = pq.read_table(tmp_path / "out" / "_quarantine").to_pandas()
    assert len(quarantine) == len(bad) + 3
    first = quarantine[quarantine.reason == "bad_user"].iloc[0]
    assert first.file.endswith("log.csv") and first.row == 0 and json.loads(first.content)["user_id"] == "x"

    run_job(model, tmp_path / "clean", interactions=files / "log.parquet", candidates=files / "candidates.parquet",
            shards=2)
    pd.testing.assert_frame_equal(read_parts(tmp_path / "out"), read_parts(tmp_path / "clean"))


def test_users_listed_twice_are_answered_once(files, model, tmp_path):
    users = make_users()
    pd.concat([users[:5].assign(age=1.0), users]).to_parquet(tmp_path / "users.parquet")
    summary = run_job(model, tmp_path / "out", mode="embed", interactions=files / "log.parquet",
                      users=tmp_path / "users.parquet", shards=2)
    assert summary["rejected"]["users"] == {"duplicate_user": 5} and summary["rows"] == len(users)
    run_job(model, tmp_path / "once", mode="embed", interactions=files / "log.parquet", users=files / "users.parquet",
            shards=2)
    both = [read_parts(tmp_path / name).sort_values("user_id").user_state.tolist() for name in ("out", "once")]
    np.testing.assert_array_equal(*both)  # the last row of a user counts
    content = pq.read_table(tmp_path / "out" / "_quarantine").to_pandas().content
    assert json.loads(content[0])["age"] == 1.0


def test_an_unreadable_shard_is_named_and_the_others_scored(files, model, tmp_path, capfd):
    candidates = make_candidates()
    cuts = np.array_split(np.arange(len(candidates)), 3)
    for number, rows in enumerate(cuts):
        candidates.iloc[rows].to_parquet(tmp_path / f"c-{number}.parquet")
    whole = (tmp_path / "c-1.parquet").read_bytes()
    out, arguments = tmp_path / "out", ["--interactions", str(files / "log.parquet"), "--candidates",
                                        str(tmp_path / "c-*.parquet"), "--shards", "2", "--workers", "1"]

    # Pages overwritten: the footer is fine, so only reading finds it.
    (tmp_path / "c-1.parquet").write_bytes(whole[:4] + b"\xff" * 150 + whole[154:])
    assert cli.main(["batch-score", "--model", model, "--out", str(out), "--json", *arguments]) == 2
    captured = capfd.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("tfmeta: error:")]
    kept = len(candidates) - len(cuts[1])
    assert len(errors) == 1 and "c-1.parquet" in errors[0] and f"{kept} rows of the other files" in errors[0]
    summary = json.loads(captured.out.splitlines()[-1])
    assert not summary["complete"] and len(read_parts(out)) == summary["rows"] == kept

    # Mended, the same job makes the output whole.
    (tmp_path / "c-1.parquet").write_bytes(whole)
    assert cli.main(["batch-score", "--model", model, "--out", str(out), *arguments]) == 0
    assert len(read_parts(out)) == len(candidates) and not (out / "_work").exists()

    # Cut off: found before anything runs.
    (tmp_path / "c-1.parquet").write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"c-1.parquet' cannot be read.*Nothing was scored"):
        run_job(model, tmp_path / "other", interactions=files / "log.parquet",
                candidates=tmp_path / "c-*.parquet", on_bad_shard="stop")
    assert len(read_parts(out)) == len(candidates)


def test_data_that_do_not_fit_the_model_are_refused_first(files, model, tmp_path):
    ok = {"interactions": files / "log.parquet", "candidates": files / "candidates.parquet"}
    make_log().rename(columns={"rating": "raiting"}).to_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"requires column 'rating'.*Did you mean 'raiting'\?"):
        run_job(model, tmp_path / "out", **{**ok, "interactions": tmp_path / "log.parquet"})
    make_users().drop(columns="age").to_parquet(tmp_path / "users.parquet")
    with pytest.raises(DataError, match=r"users requires column 'age'"):
        run_job(model, tmp_path / "out", users=tmp_path / "users.parquet", **ok)
    with pytest.raises(DataError, match="No file matches"):
        run_job(model, tmp_path / "out", **{**ok, "candidates": tmp_path / "none-*.parquet"})
    with pytest.raises(ConfigError, match=r"name that ends in .parquet"):
        (tmp_path / "log.txt").write_text("a")
        run_job(model, tmp_path / "out", **{**ok, "interactions": tmp_path / "log.txt"})
    assert not (tmp_path / "out").exists()
    make_log().assign(rating="high").to_parquet(tmp_path / "words.parquet")
    with pytest.raises(DataError, match=r"rows that fit the model, all \d+ were rejected: .*label"):
        run_job(model, tmp_path / "out", **{**ok, "interactions": tmp_path / "words.parquet"})
    assert not list((tmp_path / "out").glob("part-*"))


def test_models_without_what_is_needed_are_refused(files, model, tmp_path):
    with pytest.raises(ExportError, match=r"requires saved_model\.pb"):
        run_job(str(tmp_path / "none"), tmp_path / "out", mode="embed", interactions=files / "log.parquet")
    other = tmp_path / "movies" / "3"
    shutil.copytree(f"{model}/1", other)
    about = json.loads((other / "assets.extra" / "export.json").read_text())
    del about["signatures"]["adapt_and_recommend"]
    (other / "assets.extra" / "export.json").write_text(json.dumps(about))
    with pytest.raises(ExportError, match=r"'recommend' requires signature 'adapt_and_recommend', model '.*3' has"):
        run_job(str(other.parent), tmp_path / "out", mode="recommend", interactions=files / "log.parquet")
    (other / "assets.extra" / "export.json").unlink()
    with pytest.raises(ExportError, match=r"exported by tfmeta.*no assets.extra/export.json"):
        run_job(str(other), tmp_path / "out", mode="embed", interactions=files / "log.parquet")


def test_another_job_is_not_overwritten_unasked(files, model, tmp_path):
    ok = {"interactions": files / "log.parquet", "shards": 1}
    run_job(model, tmp_path / "out", mode="embed", **ok)
    with pytest.raises(DataError, match=r"has the output of another job.*--overwrite"):
        run_job(model, tmp_path / "out", mode="recommend", **ok)
    run_job(model, tmp_path / "out", mode="recommend", overwrite=True, **ok)
    assert "items" in read_parts(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match=r"it has 'thesis.txt'"):
        run_job(model, tmp_path / "mine", mode="embed", overwrite=True, **ok)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_giant_user_costs_no_more_than_the_bound(model, tmp_path):
    """100,000 interactions of one user in ten files, no time among them equal: the last ones count."""
    rng = np.random.default_rng(0)
    times = rng.permutation(100_000)
    giant = pd.DataFrame({"user_id": 1, "movie_id": [f"m{i}" for i in rng.integers(0, 9, 100_000)],
                          "rating": rng.integers(1, 6, 100_000).astype(float), "timestamp": times})
    for number in range(10):
        giant[number * 10_000:(number + 1) * 10_000].to_parquet(tmp_path / f"log-{number}.parquet")
    giant.sort_values("timestamp").tail(BOUND).to_parquet(tmp_path / "last.parquet")
    kept = []
    from tfmeta.batch import score_shard

    real = score_shard.staged_tables
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_shard, "staged_tables", lambda *a: [kept.append(t.num_rows) or t for t in real(*a)])
        run_job(model, tmp_path / "all", mode="embed", interactions=tmp_path / "log-*.parquet", shards=1)
    assert sum(kept) == 10 * BOUND  # no more reaches the second stage
    run_job(model, tmp_path / "short", mode="embed", interactions=tmp_path / "last.parquet", shards=1)
    pd.testing.assert_frame_equal(read_parts(tmp_path / "all").drop(columns="adapted_at"),
                                  read_parts(tmp_path / "short").drop(columns="adapted_at"))
