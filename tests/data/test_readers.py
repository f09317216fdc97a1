"""Readers of CSV and Parquet: nothing is lost, chunks and files do not show, memory stays bounded."""

import gzip
import json
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfmeta import config
from tfmeta.data import readers
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.readers import csv_reader, parquet_reader
from tfmeta.data.readers.delimited_file import DelimitedFile
from tfmeta.data.schema import Schema
from tfmeta.data.too_many_bad_rows_error import TooManyBadRowsError
from tfmeta.errors import ConfigError, DataError
from tfmeta.io import filesystem


def lenient(**keys) -> Schema:
    return config.parse(Schema, {"interactions": "r.csv", "max_bad_share": 1.0, **keys})


def write(folder, text: str | bytes, name: str = "r.csv") -> str:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder)


def same(a, b) -> None:
    """Asserts that two results hold the same."""
    for name in ("users", "items", "rejected"):
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name))
    for name in ("user_row", "item_row", "label", "time"):
        np.testing.assert_array_equal(getattr(a.interactions, name), getattr(b.interactions, name))
    assert a.counts == b.counts


MESSY = ("\n\r\nuser_id,item_id,rating,t,age,tags\n"
         'u1,i1,3,10,30,a|b\n'
         "u2,i1,4,11,x,\n"
         "\r\n"
         "u2,i2\n"
         '"u,3","i ""quoted""",5,12,4,"c|d"\n'
         "u1,i2,3,9,,e,extra\r\n"
         '"u4","two\nlines",2,13,5,f\n'
         '"u5,i1,3,10,1,g\n'
         "u6,i1,1,14,6,h\n"
         ",i1,1,14,6,h\n"
         "u1,i1,2,15,31,\n")
MESSY_KEYS = {"timestamp": "t", "user_features": [{"name": "age", "kind": "numeric"}],
              "item_features": [{"name": "tags", "kind": "multi_categorical"}]}


def test_messy_text_becomes_rows_and_quarantine(tmp_path):
    raw = readers.read("csv", write(tmp_path, MESSY), schema=lenient(**MESSY_KEYS))
    assert raw.users["user_id"].tolist() == ["u,3", "u1", "u2", "u4", "u6"]
    assert raw.items["item_id"].tolist() == ['i "quoted"', "i1", "two\nlines"]
    assert raw.items["tags"].tolist() == [["c", "d"], ["h"], ["f"]]
    np.testing.assert_array_equal(raw.users["age"], np.float32([4, 31, np.nan, 5, 6]))
    assert raw.rejected[["row", "reason"]].values.tolist() == [
        [1, "bad_feature:age"], [2, "too_few_columns"], [4, "too_many_columns"], [6, "malformed_row"],
        [8, "missing_user_id"]]
    contents = [json.loads(c) for c in raw.rejected["content"]]
    assert contents[1] == {"values": ["u2", "i2"]} and contents[3] == {"line": '"u5,i1,3,10,1,g'}
    assert contents[4]["user_id"] == "" and contents[4]["tags"] == "h"
    assert raw.counts["read"] == 10 and raw.counts["kept"] == 5 and raw.counts["duplicates"] == 1


@pytest.mark.parametrize("size", [1, 7, 40, 100, 10_000])
def test_the_size_of_chunks_does_not_show(tmp_path, size):
    source = write(tmp_path, MESSY)
    schema = lenient(**MESSY_KEYS)
    same(csv_reader.read(source, schema=schema, chunk_characters=size), csv_reader.read(source, schema=schema))


text = st.text(st.sampled_from('u1,3"\n\r|;\t 5é\0.x'), max_size=60)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=text | st.binary(max_size=60), size=st.integers(1, 30), separator=st.sampled_from([",", "::", "\t", "|"]),
       quote=st.sampled_from(['"', None]), encoding=st.sampled_from(["utf-8", "latin-1", "utf-16"]),
       header=st.booleans())
def test_no_text_raises_anything_but_data_errors(tmp_path, text, size, separator, quote, encoding, header):
    columns = ["user_id", "item_id", "rating"]
    if isinstance(text, str):
        text = text.replace(",", separator).encode(encoding)
    start = (separator.join(columns) + "\n").encode(encoding) if header else b""
    schema = lenient(csv={"separator": separator, "quote": quote, "encoding": encoding, "null_values": ["x"],
                          "columns": None if header else columns})
    source = write(tmp_path, start + text)
    results = []
    for characters in (size, 1 << 20):
        try:
            raw = csv_reader.read(source, schema=schema, chunk_characters=characters)
            results.append((raw.counts, raw.rejected))
        except TooManyBadRowsError as error:
            results.append((error.counts, error.rejected))
        except DataError as error:
            results.append((str(error), None))
    (counts, rejected), (counts_whole, rejected_whole) = results
    assert counts == counts_whole, "whatever the text, chunks do not show"
    if rejected is not None:
        pd.testing.assert_frame_equal(rejected, rejected_whole)
        assert counts["read"] == counts["kept"] + counts["duplicates"] + counts["rejected"]
        assert counts["rejected"] == len(rejected)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=text, separator=st.sampled_from([",", "::"]), quote=st.sampled_from(['"', None]))
def test_both_ways_of_splitting_agree(tmp_path, monkeypatch, text, separator, quote):
    write(tmp_path, text.replace(",", separator))

    def chunks():
        file = DelimitedFile(str(tmp_path / "r.csv"), name="r.csv", columns=("a", "b", "c"),
                             options=CsvOptions(separator=separator, quote=quote), chunk_characters=20)
        return [(c.rows.tolist(), {n: a.to_pylist() for n, a in c.columns.items()}, c.malformed,
                 [c.content(i) for i in range(len(c.rows))]) for c in file.chunks()]

    fast = chunks()
    with monkeypatch.context() as patch:
        patch.setattr(DelimitedFile, "_split_whole", lambda *_: None)
        assert chunks() == fast


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5)), min_size=1, max_size=8))
def test_quoted_values_come_back_as_they_were_written(tmp_path, pairs):
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(rating=3)
    frame = frame[~frame["user_id"].str.contains("\N{REPLACEMENT CHARACTER}")
                  & ~frame["item_id"].str.contains("\N{REPLACEMENT CHARACTER}")]
    if frame.empty:
        return
    frame.to_csv(tmp_path / "r.csv", index=False, quoting=1, lineterminator="\n", encoding="utf-8")
    raw = csv_reader.read(str(tmp_path), schema=lenient(), chunk_characters=11)
    assert raw.rejected.empty
    assert set(zip(raw.users["user_id"].to_numpy(object)[raw.interactions.user_row],
                   raw.items["item_id"].to_numpy(object)[raw.interactions.item_row], strict=True)) == set(
        frame[["user_id", "item_id"]].itertuples(index=False, name=None))


def test_wrong_encoding_does_not_merge_ids(tmp_path):
    source = write(tmp_path, "user_id,item_id,rating\nné,i,3\nna,i,3\n".encode("latin-1"))
    assert csv_reader.read(source, schema=lenient()).rejected["reason"].tolist() == ["bad_user_id"]
    raw = csv_reader.read(source, schema=lenient(csv={"encoding": "latin-1"}))
    assert raw.users["user_id"].tolist() == ["na", "né"]


def test_unclosed_quote_costs_one_row(tmp_path):
    rows = "".join(f"u{i},i,3\n" for i in range(30_000))
    raw = csv_reader.read(write(tmp_path, 'user_id,item_id,rating\n"u,i,3\n' + rows), schema=lenient())
    assert raw.counts["kept"] == 30_000 and raw.rejected["reason"].tolist() == ["malformed_row"]


def test_null_values_bom_and_gzip(tmp_path):
    text = "\ufeffuser_id,item_id,rating\nu,i,3\nNA,i,3\nu,j,NULL\n"
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(text.encode()))
    raw = csv_reader.read(str(tmp_path), schema=lenient(interactions="*.gz", csv={"null_values": ["NA", "NULL"]}))
    assert raw.rejected["reason"].tolist() == ["missing_user_id", "missing_label"]
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(text.encode())[:-12])
    with pytest.raises(DataError, match=r"r\.csv\.gz"):
        csv_reader.read(str(tmp_path), schema=lenient(interactions="*.gz"))


@pytest.fixture
def dataset(tmp_path):
    """A source in CSV and in Parquet: several interactions files, users and items."""
    rng = np.random.default_rng(7)
    interactions = pd.DataFrame({"user_id": rng.integers(0, 20, 400), "item_id": rng.integers(0, 30, 400),
                                 "rating": rng.integers(0, 7, 400), "t": np.arange(400)})
    users = pd.DataFrame({"user_id": np.arange(20)[::-1], "age": rng.integers(10, 60, 20)})
    items = pd.DataFrame({"item_id": np.arange(30)[::-1], "name": [f"item {i}" for i in range(30)]})
    for i in range(4):
        part = interactions[i * 100:(i + 1) * 100]
        part.to_csv(tmp_path / f"r{i}.csv", index=False)
        part.to_parquet(tmp_path / f"r{i}.parquet", index=False)
    for name, frame in (("users", users), ("items", items)):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
    return tmp_path


def dataset_schema(suffix: str, **keys) -> Schema:
    return lenient(**{"interactions": f"r?.{suffix}", "users": f"users.{suffix}", "items": f"items.{suffix}",
                      "timestamp": "t", "title": "name", "user_id_dtype": "int64",
                      "user_features": [{"name": "age", "kind": "numeric"}], **keys})


def test_csv_and_parquet_agree(dataset):
    text = csv_reader.read(str(dataset), schema=dataset_schema("csv"))
    typed = parquet_reader.read(str(dataset), schema=dataset_schema("parquet"))
    assert text.counts == typed.counts and text.counts["rejected"] > 50 and text.counts["duplicates"] > 20
    for name in ("users", "items"):
        pd.testing.assert_frame_equal(getattr(text, name), getattr(typed, name))
    np.testing.assert_array_equal(text.interactions.label, typed.interactions.label)
    assert text.rejected["row"].tolist() == typed.rejected["row"].tolist()
    same(typed, parquet_reader.read(str(dataset), schema=dataset_schema("parquet"), chunk_rows=17))


@pytest.mark.parametrize("suffix, name", [("csv", "csv"), ("parquet", "parquet")])
def test_the_order_of_files_does_not_show(dataset, suffix, name):
    forward, backward = (
        readers.read(name, str(dataset), schema=dataset_schema(suffix, interactions=[f"r{i}.{suffix}" for i in order]))
        for order in ((0, 1, 2, 3), (3, 1, 0, 2)))
    assert forward.interactions.user_row.tolist() != backward.interactions.user_row.tolist()
    pd.testing.assert_frame_equal(forward.users, backward.users)
    pd.testing.assert_frame_equal(forward.items, backward.items)
    assert forward.counts == backward.counts

    def rows(raw):
        part = raw.interactions
        return sorted(zip(part.user_row, part.item_row, part.label, part.time, strict=True))

    assert rows(forward) == rows(backward)


def test_rejected_rows_are_named_by_file_and_row(dataset):
    raw = csv_reader.read(str(dataset), schema=dataset_schema("csv"))
    row = raw.rejected[raw.rejected["file"] == "r2.csv"].iloc[0]
    source = pd.read_csv(dataset / "r2.csv", dtype=str)
    assert json.loads(row["content"]) == source.iloc[row["row"]].to_dict()


def test_memory_does_not_hold_the_text(tmp_path):
    padding = "x" * 400
    with open(tmp_path / "r.csv", "w") as file:
        file.write("user_id,item_id,rating,note\n")
        file.writelines(f"{i % 500},{i % 401},3,{padding}\n" for i in range(60_000))
    size = (tmp_path / "r.csv").stat().st_size
    tracemalloc.start()
    raw = csv_reader.read(str(tmp_path), schema=lenient(), chunk_characters=1 << 18)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raw.counts["read"] == 60_000
    assert size > 24e6 and peak < size / 3


def test_one_file_is_a_source(dataset):
    raw = parquet_reader.read(str(dataset / "r0.parquet"), schema=lenient(interactions=None))
    assert raw.counts["read"] == 100 and set(raw.rejected["file"]) == {"r0.parquet"}


@pytest.mark.parametrize("suffix, name", [("csv", "csv"), ("parquet", "parquet")])
def test_other_file_systems(dataset, suffix, name):
    filesystem.copy_tree(str(dataset), "ram://readers/source")
    there = readers.read(name, "ram://readers/source", schema=dataset_schema(suffix))
    same(there, readers.read(name, str(dataset), schema=dataset_schema(suffix)))


@pytest.mark.parametrize("keys, error, text", [
    ({"interactions": "z*.csv"}, DataError, "No file matches 'z"),
    ({"users": "nobody.csv"}, DataError, "nobody.csv"),
    ({"interactions": None}, ConfigError, "requires 'interactions'"),
    ({"label": {"name": "stars"}}, DataError, "'r0.csv' requires column 'stars'"),
    ({"interactions": ["users.csv"]}, DataError, "requires column 'item_id'"),
])
def test_wrong_files_and_columns_are_told(dataset, keys, error, text):
    with pytest.raises(error, match=text):
        csv_reader.read(str(dataset), schema=dataset_schema("csv", **keys))


def test_wrong_use_is_told(tmp_path):
    with pytest.raises(ConfigError, match="requires a schema"):
        readers.read("csv", str(tmp_path))
    with pytest.raises(ConfigError, match="Did you mean 'parquet'"):
        readers.read("parket", str(tmp_path))
    with pytest.raises(DataError, match="does not exist"):
        csv_reader.read(str(tmp_path / "nowhere"), schema=lenient())
    with pytest.raises(DataError, match="empty file"):
        csv_reader.read(write(tmp_path, "\n\n"), schema=lenient())
    with pytest.raises(DataError, match="different names"):
        csv_reader.read(write(tmp_path, "a,a\n"), schema=lenient())
    with pytest.raises(DataError, match="at least one row"):
        csv_reader.read(write(tmp_path, "user_id,item_id,rating\n"), schema=lenient())


def test_parquet_text_that_is_no_text_is_told(tmp_path):
    ids = pa.array([b"u", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"user_id": ids, "item_id": [1, 2], "rating": [3, 3]}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"r\.parquet.*UTF-?8"):
        parquet_reader.read(str(tmp_path), schema=lenient(interactions="r.parquet"))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flip=st.integers(0, 3000), value=st.integers(0, 255))
def test_damaged_parquet_raises_nothing_but_data_errors(dataset, flip, value):
    data = bytearray((dataset / "r0.parquet").read_bytes())
    data[flip % len(data)] = value
    (dataset / "damaged.parquet").write_bytes(bytes(data))
    try:
        parquet_reader.read(str(dataset), schema=lenient(interactions="damaged.parquet", timestamp="t"))
    except DataError as error:
        assert "damaged.parquet" in str(error) or isinstance(error, TooManyBadRowsError)
