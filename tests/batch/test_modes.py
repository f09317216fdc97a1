"""Lists, states, and files of other formats."""

import ast
import gzip

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from batch_cases import (
    make_candidates,
    make_log,
    make_users,
    read_parts,
    run_job,
    support_inputs,
    user_inputs,
)
from export_cases import BOUND

from tfmeta.errors import ConfigError

EXCLUDE = {"exclude_item": np.array([[""]], object), "exclude_length": np.zeros(1, np.int32)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    make_log().to_parquet(folder / "log.parquet")
    make_candidates().to_parquet(folder / "candidates.parquet")
    make_users().to_parquet(folder / "users.parquet")
    return folder


def test_lists_are_those_of_direct_calls(files, model, servable, tmp_path):
    log, users = make_log(), make_users()
    summary = run_job(model, tmp_path / "out", mode="recommend", interactions=files / "log.parquet",
                      users=files / "users.parquet", count=4, shards=2, batch_users=8)
    found = read_parts(tmp_path / "out")
    assert summary["rows"] == len(users) and sorted(found.user_id) == sorted(users.user_id)
    for row in found.itertuples():
        wanted = servable.run("adapt_and_recommend", {**user_inputs(users, row.user_id), **EXCLUDE,
                                                      **support_inputs(log, row.user_id, BOUND)})
        count = min(4, int(wanted["item_count"][0]))
        assert list(row.items) == [i.decode() for i in wanted["item_ids"][0, :count]]
        np.testing.assert_allclose(row.scores, wanted["scores"][0, :count], rtol=1e-5, atol=1e-5)


def test_states_score_as_adaptation_does(files, model, servable, tmp_path):
    log, users = make_log(), make_users()
    run_job(model, tmp_path / "out", mode="embed", interactions=files / "log.parquet", users=files / "users.parquet",
            shards=2, batch_users=8)
    found = read_parts(tmp_path / "out")
    assert sorted(found.user_id) == sorted(users.user_id) and (found.model_version == "1").all()
    assert found.adapted_at.nunique() == 1 and found.interactions.max() == BOUND
    assert (found.interactions[found.user_id % 7 == 0] == 0).all()
    query = {"query_movie_id": np.array([["m1", "m4", "m9"]], object)}
    for row in found[:12].itertuples():
        user = user_inputs(users, row.user_id)
        wanted = servable.run("adapt_and_score", {**user, **query, **support_inputs(log, row.user_id, BOUND)})
        stored = servable.run("score_with_state", {
            **user, **query, "user_state": row.user_state[None, :].astype(np.float32),
            "state_model": np.array([row.state_model.encode()], object)})
        np.testing.assert_allclose(stored["scores"], wanted["scores"], rtol=1e-4, atol=1e-5)
        assert not stored["status"][0] & 4


def test_users_of_the_log_are_answered_where_no_others_are_named(files, model, tmp_path):
    run_job(model, tmp_path / "out", mode="embed", interactions=files / "log.parquet", shards=1)
    found = read_parts(tmp_path / "out")
    assert sorted(found.user_id) == sorted(make_log().user_id.unique())


def test_without_interactions_nobody_is_adapted(files, model, tmp_path):
    run_job(model, tmp_path / "out", candidates=files / "candidates.parquet", users=files / "users.parquet", shards=1)
    found = read_parts(tmp_path / "out")
    assert len(found) == len(make_candidates()) and (found.score == found.base_score).all()


def write_records(frame: pd.DataFrame, path, *, extra=()) -> None:
    import tensorflow as tf

    def feature(value):
        if isinstance(value, str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[] if np.isnan(value) else [value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))

    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in frame.to_dict("records"):
            writer.write(tf.train.Example(features=tf.train.Features(
                feature={k: feature(v) for k, v in row.items()})).SerializeToString())
        for record in extra:
            writer.write(record)


def test_csv_and_tfrecord_give_the_rows_of_parquet(files, model, tmp_path):
    import tensorflow as tf

    names = ("log", "candidates", "users")
    frames = dict(zip(names, (make_log(), make_candidates(), make_users()), strict=True))
    for name, frame in frames.items():
        with gzip.open(tmp_path / f"{name}.csv.gz", "wt") as file:
            frame.to_csv(file, index=False)
        write_records(frame, tmp_path / f"{name}.tfrecord", extra=[b"\xff\xffno example"] if name == "log" else ())
    results = {}
    for folder, ending in ((files, "parquet"), (tmp_path, "csv.gz"), (tmp_path, "tfrecord")):
        summary = run_job(model, tmp_path / ending, shards=2, interactions=folder / f"log.{ending}",
                          candidates=folder / f"candidates.{ending}", users=folder / f"users.{ending}")
        results[ending] = read_parts(tmp_path / ending)
        assert summary["rejected"]["interactions"] == ({"bad_record": 1} if ending == "tfrecord" else {})
    pd.testing.assert_frame_equal(results["csv.gz"], results["parquet"])
    pd.testing.assert_frame_equal(results["tfrecord"], results["parquet"])

    run_job(model, tmp_path / "records", mode="embed", shards=1, output_format="tfrecord",
            interactions=files / "log.parquet")
    run_job(model, tmp_path / "states", mode="embed", shards=1, interactions=files / "log.parquet")
    wanted = read_parts(tmp_path / "states")
    read = list(tf.data.TFRecordDataset(str(tmp_path / "records" / "part-00000-of-00001.tfrecord")).as_numpy_iterator())
    assert len(read) == len(wanted)
    features = tf.train.Example.FromString(read[0]).features.feature
    np.testing.assert_array_equal(features["user_state"].float_list.value, wanted.user_state[0])
    assert features["user_id"].int64_list.value[0] == wanted.user_id[0]


class FakeTable:
    """BigQuery's connector as far as the job uses it: tables by name."""

    def __init__(self, tables):
        self.tables = tables

    def read(self, name):
        import apache_beam as beam

        return beam.Create(self.tables[name])


def test_tables_come_in_and_go_out(files, model, tmp_path, monkeypatch):
    import apache_beam as beam

    from tfmeta.batch import tables

    written = tmp_path / "rows"
    fake = FakeTable({"p.d.log": make_log().to_dict("records")})
    monkeypatch.setattr(tables, "read_table", fake.read)
    monkeypatch.setattr(tables, "write_table", lambda name, schema: "AsText" >> (
        beam.Map(repr) | beam.io.WriteToText(str(written), num_shards=1)))
    summary = run_job(model, "bq://p.d.scores", work=str(tmp_path / "work"), output_format="bigquery", shards=2,
                      interactions=("bq://p.d.log",), candidates=files / "candidates.parquet")
    assert summary["rows"] == len(make_candidates())
    rows = (tmp_path / "rows-00000-of-00001").read_text().splitlines()
    assert len(rows) == len(make_candidates()) and "'base_score'" in rows[0]
    run_job(model, tmp_path / "plain", shards=2, interactions=files / "log.parquet",
            candidates=files / "candidates.parquet")
    wanted = read_parts(tmp_path / "plain").sort_values(["user_id", "movie_id"]).score
    found = pd.DataFrame([ast.literal_eval(r) for r in rows]).sort_values(["user_id", "movie_id"]).score
    # Rows of one user and time have no order in a table, so a support may differ in its oldest row.
    assert np.mean(np.isclose(found, wanted, atol=1e-4)) > 0.7


def test_the_real_connector_is_given_its_own_words(monkeypatch):
    import sys

    import pyarrow as pa

    from tfmeta.batch import tables

    assert tables.connector_name("p.d.t") == "p:d.t"
    with pytest.raises(ConfigError, match=r"bq://project.dataset.table, received 'bq://p.t'"):
        tables.connector_name("p.t")
    schema = pa.schema([("user-id", pa.string()), ("scores", pa.list_(pa.float32())), ("n", pa.int32())])
    assert tables.table_schema(schema)["fields"] == [
        {"name": "user_id", "mode": "NULLABLE", "type": "STRING"},
        {"name": "scores", "mode": "REPEATED", "type": "FLOAT"},
        {"name": "n", "mode": "NULLABLE", "type": "INTEGER"}]
    monkeypatch.setitem(sys.modules, "apitools.base.py", None)
    with pytest.raises(ConfigError, match=r"pip install 'tfmeta\[gcp\]'"):
        tables.read_table("p.d.t")


def test_parts_are_read_by_row(files, model, tmp_path):
    from tfmeta.batch.tables import PartRows

    run_job(model, tmp_path / "out", mode="recommend", interactions=files / "log.parquet", shards=1)
    part = next((tmp_path / "out").glob("part-*.parquet"))
    rows = list(PartRows().process({"path": str(part)}))
    assert rows == pq.read_table(part).to_pylist()
