"""The log keeps every event once, by days, and says what it left out."""

import dataclasses
import datetime
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from event_cases import DAY, START, as_logged, make_outcomes, make_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfmeta.data.raw_data import RawData
from tfmeta.errors import ConfigError, DataError
from trainer.feedback.event_log import EventLog
from trainer.feedback.event_schema import EVENT_SCHEMA
from trainer.feedback.ingest_file import IngestFile
from trainer.feedback.json_lines import json_chunks
from trainer.feedback.stored_events import stored_events


@pytest.fixture
def log(tmp_path):
    return EventLog.create(tmp_path / "log", make_spec())


def test_round_trip_by_days(log, tmp_path):
    frame = make_outcomes()
    report = log.ingest(frame, kind="outcome")
    assert (report.read, report.taken, report.duplicates, report.quarantined) == (300, 300, 0, {})
    pd.testing.assert_frame_equal(log.outcomes(), as_logged(frame))
    days = [datetime.date(2023, 11, 15) + datetime.timedelta(days=d) for d in range(4)]
    assert log.dates() == days and report.partitions == tuple(map(str, days))
    for day in days:
        mine = log.outcomes(day, day)
        assert len(mine) and set((mine.time - START) // DAY) == {(day - days[0]).days}
    pd.testing.assert_frame_equal(pd.concat([log.outcomes(None, days[1]), log.outcomes(days[2])], ignore_index=True),
                                  log.outcomes())
    with pytest.raises(ConfigError, match="not before start"):
        log.outcomes(days[1], days[0])
    again = EventLog.open(log.path)
    assert again.feature_spec == make_spec() and len(again.outcomes()) == 300
    # Any reader of Parquet finds its way: a part is named after its contents and has no other day's events.
    parts = sorted((tmp_path / "log").glob("date=*/part-*.parquet"))
    assert len(parts) == 4
    assert [pq.read_schema(p).names for p in parts] == [EVENT_SCHEMA.names] * 4


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "jsonl", "jsonl.gz"])
def test_formats_give_the_same_events(log, tmp_path, ending):
    frame = make_outcomes(80)
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending.startswith("csv"):
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert log.ingest(str(path), kind="outcome").taken == 80
    pd.testing.assert_frame_equal(log.outcomes(), as_logged(frame))
    # The same rows from memory have the same derived ids.
    report = log.ingest(pa.Table.from_pandas(frame), kind="outcome")
    assert (report.taken, report.duplicates) == (0, 80)


def test_twice_is_once(log, tmp_path):
    frame = make_outcomes()
    first, second = tmp_path / "a.parquet", tmp_path / "b.csv"
    frame.iloc[:200].to_parquet(first)
    frame.iloc[100:].to_csv(second, index=False)
    assert log.ingest(str(first), kind="outcome").taken == 200
    files = {p: p.read_bytes() for p in (tmp_path / "log").rglob("*.parquet")}
    report = log.ingest([str(first), str(second)], kind="outcome")
    assert (report.files, report.known_files, report.taken, report.duplicates) == (2, 1, 100, 300)
    assert {p: p.read_bytes() for p in files} == files
    pd.testing.assert_frame_equal(log.outcomes(), as_logged(frame))
    for _ in range(2):
        assert log.ingest([str(second), str(first)], kind="outcome").taken == 0
    assert len(log.outcomes()) == 300


def test_blocks_do_not_show(tmp_path):
    frame = pd.concat([make_outcomes(), make_outcomes()], ignore_index=True)
    logs = [EventLog.create(tmp_path / name, make_spec()) for name in ("whole", "blocks")]
    reports = [log.ingest(frame, kind="outcome", block_rows=rows) for log, rows in zip(logs, (1 << 20, 1), strict=True)]
    assert [(r.taken, r.duplicates) for r in reports] == [(300, 300)] * 2
    pd.testing.assert_frame_equal(logs[0].outcomes(), logs[1].outcomes())


def test_given_ids_are_known_whatever_the_day(log):
    frame = make_outcomes(10).assign(event_id=[f"e{i}" for i in range(10)])
    assert log.ingest(frame, kind="outcome").taken == 10
    moved = frame.iloc[:1].assign(time=frame.time.iloc[0] + 40 * DAY)
    report = log.ingest(pd.concat([frame.iloc[1:], moved]), kind="outcome", max_bad_share=0.2)
    assert (report.taken, report.duplicates, report.quarantined) == (0, 9, {"conflicting_event_id": 1})
    _, row, reason, content = report.first_bad
    assert (row, reason) == (9, "conflicting_event_id")
    assert json.loads(content)["event_id"] == "e0"
    assert json.loads(content)["kept"] == {"time": int(frame.time.iloc[0])}  # what the log has, and keeps


def test_ids_that_grow_with_time_spare_reading(tmp_path, monkeypatch):
    ids = [f"{i:06d}" for i in range(1000)]
    n = len(ids)
    table = pa.table({"event_id": ids, "kind": ["outcome"] * n, "time": list(range(n)), "request_id": [""] * n,
                      "user_id": ["u"] * n, "item_id": ids, "label": [1.0] * n, "score": [None] * n,
                      "model_version": [None] * n, "adapted": [None] * n}, schema=EVENT_SCHEMA)
    path = str(tmp_path / "part.parquet")
    pq.write_table(table, path, row_group_size=100)
    read = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group",
                        lambda self, i, **options: read.append((i, *options)) or real(self, i, **options))
    wanted = pa.array(["000250", "000310", "000399", "0003105"])
    assert stored_events([path], wanted)["event_id"].to_pylist() == ["000250", "000310", "000399"]
    # Ids alone of two row groups out of ten, then the rows of those that have some.
    assert read == [(2, "columns"), (2,), (3, "columns"), (3,)]


def test_one_event_with_two_labels_is_a_conflict_and_the_first_stays(log):
    rows = make_outcomes(20)
    log.ingest(rows, kind="outcome")
    changed = rows.assign(stars=np.where(np.arange(20) == 7, 1 + rows.stars % 5, rows.stars))
    report = log.ingest(changed, kind="outcome")
    assert (report.duplicates, report.quarantined) == (19, {"conflicting_event_id": 1})
    pd.testing.assert_frame_equal(log.outcomes(), as_logged(rows))
    # Another stream has events of its own.
    assert log.ingest(rows, kind="outcome", source="shop").taken == 20


def test_bad_rows_go_to_the_quarantine_with_their_number(log, tmp_path):
    bad = [{"user": "", "product": "p", "stars": 3, "time": START}, {"user": "u", "stars": 3, "time": START},
           {"user": "u", "product": "p", "stars": 3},
           {"user": "u", "product": "p", "stars": 3, "time": "soon"},
           {"user": "u", "product": "p", "stars": 3, "time": START * 1000},
           {"user": "u", "product": "p", "time": START},
           {"user": "u", "product": "p", "stars": "good", "time": START},
           {"user": "u", "product": "p", "stars": 5.5, "time": START},
           {"user": "u", "product": "p", "stars": float("nan"), "time": START}]
    reasons = ["missing_user_id", "missing_item_id", "missing_time", "bad_time", "time_out_of_range", "missing_label",
               "bad_label", "label_out_of_range", "bad_label"]
    path = tmp_path / "rows.jsonl"
    good = make_outcomes(50).to_dict("records")
    lines = [json.dumps(row) for row in [*good[:25], *bad, *good[25:]]]
    path.write_text("\n".join([*lines, '{"user": "cut off', "[1, 2]"]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"11 of 61 rows of '.*rows.jsonl' are bad .* so none was taken.*First: data "
                                        "row 25, missing_user_id"):
        log.ingest(str(path), kind="outcome")
    assert log.dates() == [] and not list((tmp_path / "log").glob("date=*"))
    report = log.ingest(str(path), kind="outcome", max_bad_share=0.5)
    assert (report.read, report.taken) == (61, 50) and report.first_bad[1:3] == (25, "missing_user_id")
    pd.testing.assert_frame_equal(log.outcomes(), as_logged(make_outcomes(50)))
    quarantine = pd.concat(map(pd.read_parquet, (tmp_path / "log" / "quarantine").glob("*.parquet")))
    assert quarantine.row.tolist() == [*range(25, 34), 59, 60]
    assert quarantine.reason.tolist() == [*reasons, "malformed_row", "malformed_row"]
    assert report.quarantined == quarantine.reason.value_counts().to_dict()


def test_requests_with_lists_of_candidates(log):
    requests = pd.DataFrame({
        "user": ["u1", "u2", "u3", "u4"], "product": [["a", "b", "c"], ["a"], ["a", "b"], None],
        "score": [[0.1, 0.2, 0.3], [4.0], [1.0], [2.0]], "request_id": ["r1", "r2", "r3", "r4"],
        "time": ["2023-11-15T00:00:01Z"] * 4, "adapted": [True, None, False, True], "model_version": [3, None, 3, 3]})
    report = log.ingest(requests, kind="request", max_bad_share=0.5)
    assert (report.taken, report.quarantined) == (4, {"lists_differ_in_length": 1, "missing_item_id": 1})
    got = log.requests().sort_values(["user_id", "item_id"], ignore_index=True)
    assert got.item_id.tolist() == ["a", "b", "c", "a"] and got.score.tolist() == [0.1, 0.2, 0.3, 4.0]
    assert got.request_id.tolist() == ["r1"] * 3 + ["r2"] and got.event_id.is_unique
    assert got.model_version.tolist()[:3] == [3] * 3 and got.model_version.isna().tolist() == [False] * 3 + [True]
    assert got.adapted.tolist()[:3] == [True] * 3 and got.adapted.isna()[3] and got.label.isna().all()
    assert set(got.time) == {START + 1} and len(log.outcomes()) == 0


def test_clicks_need_no_label(tmp_path):
    spec = dataclasses.replace(make_spec(), label=dataclasses.replace(
        make_spec().label, unit="click", minimum=0.0, maximum=1.0, threshold=0.5))
    log = EventLog.create(tmp_path / "log", spec)
    log.ingest(make_outcomes(5).drop(columns="stars"), kind="outcome")
    assert log.outcomes().label.tolist() == [1.0] * 5


def test_other_column_names_and_what_is_missing(log, tmp_path):
    frame = make_outcomes(20).rename(columns={"time": "rated_at", "product": "isbn"})
    names = {"time": "rated_at", "item_id": "isbn"}
    with pytest.raises(DataError, match=r"requires column 'time' \(time\)"):
        log.ingest(frame, kind="outcome")
    with pytest.raises(DataError, match=r"requires column 'ratedat' .*Did you mean 'rated_at'"):
        log.ingest(frame, kind="outcome", columns={**names, "time": "ratedat"})
    with pytest.raises(ConfigError, match=r"Unknown event column 'tiem'.*Did you mean 'time'"):
        log.ingest(frame, kind="outcome", columns={"tiem": "rated_at"})
    with pytest.raises(ConfigError, match="'kind' requires one of request, outcome"):
        log.ingest(frame, kind="outcomes")
    # One file with a wrong column: nothing of the others is taken.
    frame.to_parquet(tmp_path / "good.parquet")
    make_outcomes(5).to_parquet(tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match=r"wrong.parquet"):
        log.ingest([str(tmp_path / "good.parquet"), str(tmp_path / "wrong.parquet")], kind="outcome", columns=names)
    assert log.dates() == []
    assert log.ingest(frame, kind="outcome", columns=names).taken == 20


def test_an_unreadable_file_leaves_the_others(log, tmp_path):
    frame = make_outcomes(100)
    frame.iloc[:50].to_parquet(tmp_path / "a.parquet")
    frame.iloc[50:].to_parquet(tmp_path / "c.parquet")
    whole = (tmp_path / "c.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[:len(whole) // 2])
    files = [str(tmp_path / f"{name}.parquet") for name in "abc"]
    report = log.ingest(files, kind="outcome")
    assert list(report.unreadable) == files[1:2] and report.taken == 100
    pd.testing.assert_frame_equal(log.outcomes(), as_logged(frame))
    with pytest.raises(DataError, match=r"nowhere.parquet"):
        log.ingest(str(tmp_path / "nowhere.parquet"), kind="outcome")
    with pytest.raises(ConfigError, match="name that ends in"):
        log.ingest(str(tmp_path / "rows.xlsx"), kind="outcome")


def test_a_file_that_breaks_off_leaves_nothing(log, tmp_path, monkeypatch):
    monkeypatch.setitem(json_chunks.__kwdefaults__, "chunk_characters", 1 << 12)
    frame = make_outcomes(4000, days=10)
    path = tmp_path / "rows.jsonl.gz"
    frame.to_json(path, orient="records", lines=True)
    path.write_bytes(path.read_bytes()[:-1000])
    written = []
    monkeypatch.setattr(IngestFile, "discard", lambda self, real=IngestFile.discard: written.append(
        list((tmp_path / "log").glob("date=*/*"))) or real(self))
    report = log.ingest(str(path), kind="outcome", block_rows=100)
    assert list(report.unreadable) == [str(path)] and report.taken == 0
    assert written[0]  # it had come some way
    assert log.dates() == [] and not list((tmp_path / "log").glob("date=*"))
    frame.to_json(path, orient="records", lines=True)
    assert log.ingest(str(path), kind="outcome").taken == 4000


def test_users_and_items_the_row_given_last_counts(log, tmp_path):
    assert log.users().columns.tolist() == ["user_id", "country"] and len(log.items()) == 0
    items = pd.DataFrame({"product": ["2", "10", "2"], "price": ["1.5", "x", "3"], "tags": ["a|b", "", "c"],
                          "name": ["Two", "Ten", "Two again"]})
    report = log.update_table("item", items)
    assert (report.taken, report.duplicates, report.replaced) == (2, 1, {"bad_feature:price": 1})
    assert log.items().item_id.tolist() == ["10", "2"] and log.items().name.tolist() == ["Ten", "Two again"]
    log.update_table("item", items.iloc[1:2].assign(price=7.0))
    log.update_table("item", pd.DataFrame({"item_id": ["11"], "price": [1.0], "tags": [["a", "b", "c", "d"]],
                                           "name": ["New"]}))
    got = log.items().set_index("item_id")
    assert got.price.to_dict() == {"10": 7.0, "11": 1.0, "2": 3.0}
    assert [list(v) for v in got.tags] == [[], ["a", "b", "c"], ["c"]]
    before = (tmp_path / "log" / "items.parquet").read_bytes()
    with pytest.raises(DataError, match=r"requires column 'price'"):
        log.update_table("item", items.drop(columns="price"))
    with pytest.raises(DataError, match=r"data row 0, missing_item_id"):
        log.update_table("item", items.iloc[:1].assign(product=None))
    assert (tmp_path / "log" / "items.parquet").read_bytes() == before


def test_what_the_log_gives_can_be_prepared(log):
    frame = make_outcomes()
    log.ingest(frame, kind="outcome")
    users, items = sorted(set(frame["user"])), sorted(set(frame["product"]))
    log.update_table("user", pd.DataFrame({"user": users, "country": "de"}))
    log.update_table("item", pd.DataFrame({"product": items, "price": 1.0, "tags": "a|b", "name": items}))
    raw = RawData.from_frames(log.outcomes(), schema=log.schema, users=log.users(), items=log.items())
    latest = frame.drop_duplicates(["user", "product"], keep="last")
    assert len(raw.interactions) == len(latest) and len(raw.rejected) == 0
    assert raw.users.user_id.tolist() == users and raw.items["name"].tolist() == items


def test_items_as_tasks_are_logged_with_users_as_users(tmp_path):
    log = EventLog.create(tmp_path / "log", make_spec().swap_sides())
    log.ingest(make_outcomes(30), kind="outcome")
    assert log.feature_spec == make_spec()
    pd.testing.assert_frame_equal(log.outcomes(), as_logged(make_outcomes(30)))


def test_create_and_open(log, tmp_path):
    assert EventLog.create(log.path, make_spec()).path == log.path
    other = dataclasses.replace(make_spec(), user_features=())
    with pytest.raises(ConfigError, match="requires user features"):
        EventLog.create(log.path, other)
    with pytest.raises(DataError, match="is not an event log"):
        EventLog.open(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pytest.raises(DataError, match="exists already and is no event log"):
        EventLog.create(tmp_path / "full", make_spec())
    schema = tmp_path / "log" / "schema.json"
    schema.write_text(schema.read_text("utf-8").replace('"layout": 1', '"layout": 9'), "utf-8")
    with pytest.raises(DataError, match="requires layout 1, received 9"):
        EventLog.open(log.path)


def test_old_days_may_go_and_single_parts_may_not(log, tmp_path):
    frame = make_outcomes()
    log.ingest(frame, kind="outcome")
    folder = tmp_path / "log" / "date=2023-11-15"
    part = next(folder.glob("part-*"))
    content = part.read_bytes()
    part.write_bytes(content[:-20])
    with pytest.raises(DataError, match=rf"{part.name}' of the event log is damaged"):
        log.outcomes()
    part.unlink()
    with pytest.raises(DataError, match=rf"'date=2023-11-15/{part.name}' is missing"):
        log.outcomes()
    folder.rmdir()
    assert log.outcomes().time.min() >= START + DAY and log.dates()[0] == datetime.date(2023, 11, 16)
    assert log.ingest(frame, kind="outcome").taken == 0  # what was dropped does not come back with its file


def test_one_writer_at_a_time(log):
    with log._lock(), pytest.raises(ConfigError, match="Another process writes"):
        EventLog.open(log.path).ingest(make_outcomes(5), kind="outcome")
    assert log.ingest(make_outcomes(5), kind="outcome").taken == 5


def test_on_another_file_system(tmp_path):
    log = EventLog.create("ram://event_log", make_spec())
    log.ingest(make_outcomes(40), kind="outcome")
    assert log.ingest(make_outcomes(60), kind="outcome").taken >= 20
    assert len(EventLog.open("ram://event_log").outcomes()) == len(log.outcomes())


_values = st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.text(max_size=5),
                    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=2)), max_size=3),
                    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.one_of(
    st.fixed_dictionaries({}, optional={"user": _values, "product": _values, "stars": _values, "time": _values,
                                        "event_id": _values, "adapted": _values}).map(json.dumps),
    st.fixed_dictionaries({"user": st.text(min_size=1, max_size=2), "product": st.text(min_size=1, max_size=2),
                           "stars": st.integers(1, 5), "time": st.integers(0, 2**33)}).map(json.dumps),
    st.text(max_size=20).map(lambda t: t.replace("\n", " "))), min_size=1, max_size=8))
def test_no_line_is_lost_whatever_it_holds(tmp_path_factory, rows):
    """Every line ends as an event, a duplicate or in the quarantine; and a second time all are known."""
    folder = tmp_path_factory.mktemp("any")
    log = EventLog.create(folder / "log", make_spec())
    header = json.dumps({"user": "u", "product": "p", "stars": 3, "time": START, "event_id": "e", "adapted": True})
    (folder / "rows.jsonl").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8", newline="\n")
    report = log.ingest(str(folder / "rows.jsonl"), kind="outcome", max_bad_share=1.0)
    assert not report.unreadable
    assert report.read == report.taken + report.duplicates + sum(report.quarantined.values())
    assert report.read >= sum(1 for r in [header, *rows] if r.strip())  # a list of candidates is several rows
    assert len(log.outcomes()) == report.taken >= 1
    assert log.ingest(str(folder / "rows.jsonl"), kind="outcome").taken == 0
