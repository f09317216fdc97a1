"""How tasks become calls, users find their rows, and ids become inputs."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.batch.input_plan import find_files
from tfmeta.batch.item_table import ItemTable
from tfmeta.batch.shard_users import last_rows
from tfmeta.batch.task_batches import cut_lists, task_batches
from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label import Label
from tfmeta.errors import ConfigError, DataError
from tfmeta.serving.client.model_description import ModelDescription

COUNTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


@settings(deadline=None, max_examples=100)
@given(counts=COUNTS, tasks=st.integers(1, 9), cells=st.integers(1, 200))
def test_every_task_is_in_one_call_that_fits(counts, tasks, cells):
    queries, supports = (np.array(c, np.int64) for c in (zip(*counts, strict=True) if counts else ([], [])))
    calls = list(task_batches(queries, supports, most_tasks=tasks, most_cells=cells))
    assert sorted(np.concatenate(calls).tolist() if calls else []) == list(range(len(counts)))
    for call in calls:
        assert 1 <= len(call) <= tasks
        assert len(call) == 1 or (queries[call].max() + supports[call].max()) * len(call) <= cells


@settings(deadline=None, max_examples=60)
@given(counts=st.lists(st.integers(1, 40), max_size=20), most=st.integers(1, 12))
def test_pieces_are_the_lists(counts, most):
    owner, start, length = cut_lists(np.array(counts, np.int64), most)
    found = [[] for _ in counts]
    for o, s, n in zip(owner.tolist(), start.tolist(), length.tolist(), strict=True):
        assert 1 <= n <= most
        found[o] += range(s, s + n)
    assert found == [list(range(n)) for n in counts]


def test_the_last_row_of_a_user_counts():
    table = pa.table({"user": ["a", "b", "a", "c"], "value": [1, 2, 3, 4], "position": [9, 1, 2, 3]})
    last, earlier = last_rows(table)
    assert dict(zip(last["user"].to_pylist(), last["value"].to_pylist(), strict=True)) == {"a": 1, "b": 2, "c": 4}
    assert earlier["value"].to_pylist() == [3]


@pytest.fixture
def description() -> ModelDescription:
    spec = FeatureSpec(
        label=Label("rating"), user_id=Feature("user", "categorical", "string", vocabulary=()),
        item_id=Feature("movie", "categorical", "string", vocabulary=()),
        item_features=(Feature("year", "numeric", "float32", mean=(0.0,), std=(1.0,)),
                       Feature("genres", "multi_categorical", "string", length=2, vocabulary=("a",))))
    return ModelDescription("m", 1, spec, {"item_features": "request"})


def test_items_bring_their_features_along(description, tmp_path):
    path = tmp_path / "items.parquet"
    pd.DataFrame({"item_id": ["m1", "m2", "m1"], "year": [1.0, 2.0, 3.0],
                  "genres": [["a"], ["b", "c", "d"], ["x"]]}).to_parquet(path)
    codes, tables = ItemTable(description, (str(path),)).encode(pa.array(["m2", "new", "m1", "m2"]))
    year, genres = tables["year"][codes], tables["genres"][codes]
    np.testing.assert_array_equal(year, [2, np.nan, 3, 2])
    assert genres.tolist() == [["b", "c"], ["", ""], ["x", ""], ["b", "c"]]
    assert tables["movie"][-1] == "" and np.isnan(tables["year"][-1])  # what pads
    with pytest.raises(ConfigError, match=r"requires --items, Parquet files with the columns movie, year, genres"):
        ItemTable(description)
    pd.DataFrame({"item_id": ["m1"], "year": [1.0]}).to_parquet(path)
    with pytest.raises(DataError, match="requires column 'genres'"):
        ItemTable(description, (str(path),))


def test_paths_globs_and_directories(tmp_path):
    for name in ("b.csv", "a.csv", "_x.csv", ".y.csv", "c.parquet"):
        (tmp_path / name).write_text("")
    names = [p.rpartition("/")[2] for p in find_files((str(tmp_path),))]
    assert names == ["a.csv", "b.csv", "c.parquet"]
    once = find_files((str(tmp_path / "b.csv"), str(tmp_path / "[ab].csv")))
    assert [p.rpartition("/")[2] for p in once] == ["b.csv", "a.csv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="requires files, it has none"):
        find_files((str(tmp_path / "empty"),))


def test_a_job_on_another_file_system(model, tmp_path):
    import io

    import pyarrow.parquet as pq
    import tensorflow as tf
    from batch_cases import make_candidates, make_log, read_parts, run_job

    make_log().to_parquet(tmp_path / "log.parquet")
    make_candidates().to_parquet(tmp_path / "candidates.parquet")
    for name in ("log", "candidates"):
        tf.io.gfile.copy(str(tmp_path / f"{name}.parquet"), f"ram://batch/in/{name}.parquet", overwrite=True)
    run_job(model, tmp_path / "out", interactions=tmp_path / "log.parquet",
            candidates=tmp_path / "candidates.parquet", shards=2)
    summary = run_job(model, "ram://batch/out", interactions="ram://batch/in/log.parquet",
                      candidates="ram://batch/in/candidates.parquet", shards=2)
    paths = sorted(tf.io.gfile.glob("ram://batch/out/part-*"))
    found = pd.concat([pq.read_table(io.BytesIO(tf.io.gfile.GFile(p, "rb").read())).to_pandas() for p in paths],
                      ignore_index=True)
    assert summary["complete"] and len(paths) == 2
    pd.testing.assert_frame_equal(found, read_parts(tmp_path / "out"))
