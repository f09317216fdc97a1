"""Cleaning: conversion, quarantine, duplicates, features, counts."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta import config
from tfmeta.data.cleaning import values
from tfmeta.data.cleaning.interaction_cleaner import last_of_pairs
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.data.too_many_bad_rows_error import TooManyBadRowsError
from tfmeta.errors import DataError


def lenient(**keys) -> Schema:
    return config.parse(Schema, {"max_bad_share": 1.0, **keys})


def clean(rows, *, columns=("user_id", "item_id", "rating"), users=None, items=None, **keys) -> RawData:
    return RawData.from_frames(pd.DataFrame(rows, columns=list(columns), dtype=object), schema=lenient(**keys),
                               users=users, items=items)


GOOD = ("g", "h", 3)


@pytest.mark.parametrize("row, reason", [
    ((None, "i", 3), "missing_user_id"),
    (("", "i", 3), "missing_user_id"),
    ((float("nan"), "i", 3), "missing_user_id"),
    (("u", None, 3), "missing_item_id"),
    (("u", "i\N{REPLACEMENT CHARACTER}", 3), "bad_item_id"),
    (("u", "i", None), "missing_label"),
    (("u", "i", ""), "missing_label"),
    (("u", "i", "good"), "label_not_a_number"),
    (("u", "i", "0x3"), "label_not_a_number"),
    (("u", "i", "1_0"), "label_not_a_number"),
    (("u", "i", "nan"), "label_not_finite"),
    (("u", "i", "-inf"), "label_not_finite"),
    (("u", "i", "1e999"), "label_not_finite"),
    (("u", "i", 0), "label_out_of_range"),
    (("u", "i", "5.0001"), "label_out_of_range"),
])
def test_every_kind_of_bad_row_is_quarantined(row, reason):
    raw = clean([GOOD, row, GOOD])
    assert raw.rejected[["file", "row", "reason"]].values.tolist() == [["interactions", 1, reason]]
    content = json.loads(raw.rejected["content"][0])
    assert list(content) == ["user_id", "item_id", "rating"] and content["item_id"] == row[1]
    assert raw.counts["rejected_by_reason"] == {reason: 1}
    assert raw.users["user_id"].tolist() == ["g"], "an id of bad rows only is no user"
    assert (raw.counts["read"], raw.counts["kept"], raw.counts["duplicates"]) == (3, 1, 1)


@pytest.mark.parametrize("text, label", [("3", 3), (" 3 ", 3), ("3.", 3), ("+3", 3), ("30e-1", 3), ("1", 1), ("5", 5)])
def test_labels_are_read_as_numbers(text, label):
    assert clean([("u", "i", text)]).interactions.label.tolist() == [label]


def test_click_labels_are_0_or_1():
    raw = clean([("u", "i", 1), ("u", "j", 0), ("u", "k", 0.5)], columns=("user_id", "item_id", "click"),
                label={"unit": "click"})
    assert raw.interactions.label.tolist() == [1, 0]
    assert raw.rejected["reason"].tolist() == ["label_not_0_or_1"]


def test_implicit_rows_are_positives():
    raw = clean([("u", "i"), ("u", "j")], columns=("user_id", "item_id"), label={"unit": "click", "implicit": True})
    assert raw.interactions.label.tolist() == [1, 1]


@pytest.mark.parametrize("time, reason", [
    ("soon", "bad_timestamp"), ("", "missing_timestamp"), ("1e300", "bad_timestamp"), ("nan", "bad_timestamp"),
    (None, "missing_timestamp")])
def test_bad_times_are_quarantined(time, reason):
    raw = clean([("u", "i", 3, "7"), ("u", "j", 3, time)], columns=("user_id", "item_id", "rating", "t"), timestamp="t")
    assert raw.rejected["reason"].tolist() == [reason]


@pytest.mark.parametrize("time, seconds", [
    ("881250949", 881250949), ("881250949.9", 881250949), ("-1.5", -2), ("123456789012345678", 123456789012345678),
    ("1970-01-02", 86400), ("1970-01-01T01:00:00+01:00", 0), ("1970-01-01 00:01:00.5", 60)])
def test_times_are_read(time, seconds):
    raw = clean([("u", "i", 3, time)], columns=("user_id", "item_id", "rating", "t"), timestamp="t")
    assert raw.interactions.time.tolist() == [seconds]


def test_typed_times_are_seconds():
    frame = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "rating": [3, 4],
                          "t": pd.to_datetime(["1970-01-01 00:00:10.7", None])})
    raw = RawData.from_frames(frame, schema=lenient(timestamp="t"))
    assert raw.interactions.time.tolist() == [10]
    assert raw.rejected["reason"].tolist() == ["missing_timestamp"]


def test_the_last_duplicate_by_time_then_by_order_stays():
    rows = [("u", "i", 1, 5), ("v", "i", 2, 1), ("u", "i", 3, 9), ("u", "i", 4, 9), ("u", "i", 5, 2)]
    raw = clean(rows, columns=("user_id", "item_id", "rating", "t"), timestamp="t")
    assert raw.interactions.label.tolist() == [2, 4]
    assert raw.counts["duplicates"] == 3 and raw.counts["rejected"] == 0 and raw.rejected.empty


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_duplicates_against_a_plain_loop(rows):
    user, item, time = (np.array([r[i] for r in rows], np.int64) for i in range(3))
    last = {}
    for index, (u, i, t) in enumerate(rows):
        if (u, i) not in last or t >= rows[last[u, i]][2]:
            last[u, i] = index
    assert np.flatnonzero(last_of_pairs(user, item, time)).tolist() == sorted(last.values())


def test_ids_unknown_to_their_files_are_quarantined():
    raw = clean([("u", "i", 3), ("x", "i", 3), ("u", "y", 3)], users=pd.DataFrame({"user_id": ["u", "w"]}),
                items=pd.DataFrame({"item_id": ["i"]}))
    assert raw.rejected["reason"].tolist() == ["unknown_user", "unknown_item"]
    assert raw.users["user_id"].tolist() == ["u", "w"], "a user without interactions is a user"
    assert raw.counts["users"] == 2 and raw.counts["users_with_interactions"] == 1


def test_ids_of_numbers_and_of_text_agree():
    numbers = pd.DataFrame({"user_id": [10, 9, None], "item_id": [1, 2, 3], "rating": [3, 3, 3]})
    text = RawData.from_frames(numbers, schema=lenient())
    assert text.users["user_id"].tolist() == ["10", "9"], "strings in the order of their characters, without .0"
    typed = RawData.from_frames(numbers, schema=lenient(user_id_dtype="int64"))
    assert typed.users["user_id"].tolist() == [9, 10] and typed.users["user_id"].dtype == np.int64
    strings = RawData.from_frames(numbers.astype(str), schema=lenient(user_id_dtype="int64"))
    assert strings.users["user_id"].tolist() == [9, 10], "7.0 is how columns with gaps are written"
    assert strings.rejected["reason"].tolist() == ["missing_user_id"]


ITEM_FEATURES = [
    {"name": "kind", "kind": "categorical"},
    {"name": "code", "kind": "categorical", "dtype": "int64"},
    {"name": "tags", "kind": "multi_categorical", "length": 2},
    {"name": "price", "kind": "numeric"},
    {"name": "plot", "kind": "text"},
    {"name": "vector", "kind": "dense_vector", "length": 2},
]


def test_features_hold_raw_values_and_missing_ones():
    items = pd.DataFrame({
        "item_id": ["b", "a"], "kind": ["x", None], "code": ["7", ""], "tags": [" p |q||r", None],
        "price": ["1.5", "nan"], "plot": ["some words", None], "vector": ["[1,  2]", ""]})
    raw = clean([("u", "a", 3)], items=items, title="plot",
                item_features=[*ITEM_FEATURES[:-1], {**ITEM_FEATURES[-1], "separator": ","}])
    missing, full = raw.items.to_dict("records")
    np.testing.assert_array_equal(full.pop("vector"), np.float32([1, 2]))
    assert full == {"item_id": "b", "kind": "x", "code": 7, "tags": ["p", "q"], "price": 1.5, "plot": "some words"}
    assert np.isnan(missing.pop("vector")).all() and np.isnan(missing.pop("price"))
    assert missing == {"item_id": "a", "kind": "", "code": -1, "tags": [], "plot": ""}
    assert raw.items["price"].dtype == np.float32 and raw.items["code"].dtype == np.int64
    assert raw.items["vector"][1].dtype == np.float32
    assert raw.counts["bad_features"] == {}


def test_bad_features_keep_the_row_and_are_told():
    items = pd.DataFrame({"item_id": ["a", "b", "c"], "code": ["1", "x", "3"], "price": ["cheap", "1", "inf"],
                          "vector": ["1 2", "1 2 3", "1 x"]})
    raw = clean([("u", "a", 3)], items=items, item_features=[ITEM_FEATURES[i] for i in (1, 3, 5)])
    assert raw.rejected[["file", "row", "reason"]].values.tolist() == [
        ["items", 0, "bad_feature:price"], ["items", 1, "bad_feature:code"], ["items", 1, "bad_feature:vector"],
        ["items", 2, "bad_feature:price"], ["items", 2, "bad_feature:vector"]]
    assert raw.items["code"].tolist() == [1, -1, 3]
    np.testing.assert_array_equal(raw.items["price"], np.float32([np.nan, 1, np.nan]))
    assert raw.counts["bad_features"] == {"code": 1, "price": 2, "vector": 2}
    assert raw.counts["items_file"] == {"read": 3, "kept": 3, "duplicates": 0, "rejected": 0}


def test_clean_frames_come_through_unchanged():
    items = pd.DataFrame({"item_id": ["b", "a"], "kind": ["x", None], "code": [7, None], "tags": [["p", "q", "r"], []],
                          "price": [1.5, np.nan], "plot": ["w", None], "vector": [[1.0, 2.0], None]})
    schema = {"item_features": ITEM_FEATURES, "title": "plot"}
    once = clean([("u", "a", 3)], items=items, **schema)
    assert once.items["tags"].tolist() == [[], ["p", "q"]]
    twice = clean([("u", "a", 3)], items=once.items, **schema)
    assert twice.rejected.empty
    assert twice.items.drop(columns="vector").equals(once.items.drop(columns="vector"))
    np.testing.assert_array_equal(np.stack(twice.items["vector"]), np.stack(once.items["vector"]))


def test_the_last_row_of_an_id_wins_in_its_file():
    items = pd.DataFrame({"item_id": ["a", "b", "a", None], "price": [1, 2, 3, 4]})
    raw = clean([("u", "a", 3)], items=items, item_features=[ITEM_FEATURES[3]])
    assert raw.items["price"].tolist() == [3, 2]
    assert raw.counts["items_file"] == {"read": 4, "kept": 2, "duplicates": 1, "rejected": 1}


def test_features_may_be_columns_of_the_interactions():
    frame = pd.DataFrame({"user_id": ["u", "v", "u", "u"], "item_id": ["i", "i", "j", "k"], "rating": [3, 3, 3, 9],
                          "age": ["1", "bad", None, "5"], "name": ["old", "new", "one", "two"]})
    raw = RawData.from_frames(frame, schema=lenient(user_features=[{"name": "age", "kind": "numeric"}], title="name"))
    np.testing.assert_array_equal(raw.users["age"], np.float32([1, np.nan]))
    assert raw.items["name"].tolist() == ["new", "one"], "the last value that is not missing, of good rows"
    assert sorted(raw.rejected["reason"]) == ["bad_feature:age", "label_out_of_range"]
    assert raw.counts["read"] == raw.counts["kept"] + raw.counts["rejected"] == 4


def test_too_many_bad_rows_are_an_error_that_keeps_them():
    frame = pd.DataFrame({"user_id": ["u"] * 20, "item_id": range(20), "rating": [3] * 18 + ["x", 9]})
    with pytest.raises(TooManyBadRowsError) as error:
        RawData.from_frames(frame, schema=Schema())
    assert isinstance(error.value, DataError)
    for part in ("2 of 20 rows", "10.0%", "5.0%", "label_not_a_number 1", "label_out_of_range 1", "'interactions'",
                 "data row 18", '"rating": "x"'):
        assert part in str(error.value)
    assert error.value.rejected["row"].tolist() == [18, 19]
    assert error.value.counts["rejected"] == 2
    assert len(RawData.from_frames(frame, schema=Schema(max_bad_share=0.1)).interactions) == 18


def test_nothing_left_and_nothing_there_are_errors():
    with pytest.raises(TooManyBadRowsError, match="No interaction is left of 1 rows: missing_user_id 1"):
        clean([(None, "i", 3)])
    with pytest.raises(DataError, match="at least one row"):
        clean([])


def test_a_missing_column_names_the_nearest():
    with pytest.raises(DataError, match=r"requires column 'rating'.*Did you mean 'ratings'"):
        clean([GOOD], columns=("user_id", "item_id", "ratings"))
    with pytest.raises(DataError, match="single values"):
        clean([("u", "i", [1, 2])])
    with pytest.raises(DataError, match="different names"):
        clean([("u", "i", 3, 4)], columns=("user_id", "item_id", "rating", "rating"))


@pytest.mark.parametrize("array, numbers", [
    (pa.array([1, None], pa.int8()), [1, None]), (pa.array([True, False]), [1, 0]),
    (pa.array(["2.5", None]).dictionary_encode(), [2.5, None]), (pa.array([1.5]).cast(pa.decimal128(5, 2)), [1.5]),
    (pa.array([b"3", b"\xff"]), [3, None]), (pa.array(["4"], pa.large_string()), [4]),
    (pa.nulls(2), [None, None])])
def test_numbers_of_every_arrow_type(array, numbers):
    read, _, good = values.to_floats(array, "x")
    assert [float(v) if g else None for v, g in zip(read, good, strict=True)] == numbers


@settings(deadline=None)
@given(st.lists(st.text("0123456789-+:TZ. We/eE", max_size=25) | st.dates().map(str) | st.datetimes().map(str),
                max_size=6))
def test_a_time_is_read_the_same_in_any_company(texts):
    together = values.to_times(pa.array(texts, pa.string()), "t")
    for i, text in enumerate(texts):
        alone = values.to_times(pa.array([text], pa.string()), "t")
        assert (alone[1][0], alone[2][0]) == (together[1][i], together[2][i])
        assert not alone[2][0] or alone[0][0] == together[0][i]


messy = st.one_of(st.none(), st.text(max_size=4), st.integers(-3, 8), st.floats(), st.booleans(),
                  st.sampled_from(["1", "u", "i", "3", "nan", "2020-01-01"]))


@settings(deadline=None)
@given(st.lists(st.tuples(messy, messy, messy, messy, messy), min_size=1, max_size=15),
       st.sampled_from(["string", "int64"]))
def test_no_values_raise_anything_but_data_errors_and_no_row_is_lost(rows, dtype):
    schema = lenient(timestamp="t", user_id_dtype=dtype, user_features=[{"name": "f", "kind": "numeric"}],
                     item_features=[{"name": "f", "kind": "multi_categorical"},
                                    {"name": "v", "kind": "dense_vector", "length": 1, "column": "f"}])
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "t", "f"], dtype=object)
    try:
        raw = RawData.from_frames(frame, schema=schema)
        counts, rejected = raw.counts, raw.rejected
        assert np.isfinite(raw.interactions.label).all()
        assert dataclasses.asdict(raw.interactions)["user_row"].max() < len(raw.users)
    except TooManyBadRowsError as error:
        counts, rejected = error.counts, error.rejected
    assert counts["read"] == len(rows) == counts["kept"] + counts["duplicates"] + counts["rejected"]
    left_out = ~rejected["reason"].str.startswith("bad_feature:").astype(bool)
    assert left_out.sum() == counts["rejected"] == sum(counts["rejected_by_reason"].values())
    json.dumps(counts, allow_nan=False)
