"""`tfmeta drift` on an event log, and the gain from adaptation by runs."""

import datetime
import json

import pandas as pd
import pytest
from drift_cases import drift_spec, make_items, make_window
from event_cases import DAY, START

from tfmeta.cli import main
from tfmeta.errors import DataError
from trainer.evaluation.results_file import write_json
from trainer.feedback.event_log import EventLog
from trainer.feedback.gain_trend import gain_trend, read_gains


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Two weeks of quiet, then a week in which the users' country changed."""
    path = str(tmp_path_factory.mktemp("drift") / "log")
    log = EventLog.create(path, drift_spec())
    for week, change in enumerate([{}, {}, {"country": (0.1, 0.9)}]):
        window = make_window(week, 120, **change)
        second = window.interactions.index.to_numpy() * 977 % (7 * DAY)
        rows = window.interactions.assign(time=START + 7 * week * DAY + second)
        log.ingest(rows, kind="outcome", columns={"label": "label"})
        log.update_table("user", window.users)
    log.update_table("item", make_items().assign(name="An item"))
    return path


def evaluation(path, *, date: str, gain: float, state: str = "user_cold", metric: str = "auc", width: float = 0.004):
    common = {"state": state, "role": "learner", "model": "ridge", "seed": "mean", "users": 300}
    rows = [{**common, "k": 0, "metric": metric, "value": 0.7},
            {**common, "k": "all", "metric": metric, "value": 0.7 + gain},
            {**common, "k": "all", "metric": f"gain_{metric}", "value": gain, "low": gain - width,
             "high": gain + width}]
    path.mkdir(parents=True)
    write_json(str(path / "evaluation.json"), environment={"date": date}, rows=rows)
    return str(path)


def test_quiet_weeks_and_one_that_is_not(log, capsys, tmp_path):
    assert main(["drift", "--log", log, "--out", str(tmp_path / "report")]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Drift: shifted\n  users' country shifted: PSI")
    assert "reference  2023-11-15 to 2023-11-28: 240 users" in text
    assert "current    2023-11-29 to 2023-12-05: 120 users" in text
    assert json.loads((tmp_path / "report" / "drift.json").read_text("utf-8"))["verdict"] == "shifted"
    assert "</html>" in (tmp_path / "report" / "drift.html").read_text("utf-8")
    assert main(["drift", "--log", log, "--reference", ":2023-11-21", "--current", "2023-11-22:2023-11-28",
                 "--json"]) == 0
    quiet = json.loads(capsys.readouterr().out)
    assert quiet["verdict"] == "none" and quiet["reference"]["users"] == quiet["current"]["users"] == 120


def test_gains_of_runs(log, capsys, tmp_path):
    runs = [evaluation(tmp_path / name, date=f"2026-0{i}-01T00:00:00+00:00", gain=gain)
            for i, (name, gain) in enumerate([("b", 0.031), ("c", 0.022), ("a", 0.012)], start=1)]
    assert main(["drift", "--log", log, "--reference", ":2023-11-21", "--current", "2023-11-22:2023-11-28", "--runs",
                 *runs[::-1], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "shifted"
    assert "gain from adaptation shifted: +0.0310 AUC in 2026-01" in report["reasons"][0]
    assert [p["gain"] for p in report["gain"]["points"]] == [0.031, 0.022, 0.012]
    trend = gain_trend(read_gains(runs[:2]), alpha=0.01)
    assert trend.verdict == "moderate" and trend.lost == pytest.approx(0.009)
    assert gain_trend(read_gains(runs[:1]), alpha=0.01) is None and gain_trend(None, alpha=0.01) is None
    # Less by what the intervals explain, or more: nothing to report.
    wide = [evaluation(tmp_path / f"w{i}", date=f"2026-0{i}-01", gain=g, width=0.02)
            for i, g in ((1, 0.03), (2, 0.015))]
    assert gain_trend(read_gains(wide), alpha=0.01).verdict == "stable"
    assert gain_trend(read_gains([runs[2], evaluation(tmp_path / "d", date="2026-09-01", gain=0.03)]),
                      alpha=0.01).verdict == "stable"


def test_less_error_is_a_gain(tmp_path):
    runs = [evaluation(tmp_path / f"{i}", date=f"2026-0{i}-01", gain=g, metric="mae")
            for i, g in ((1, -0.1), (2, -0.02))]
    trend = gain_trend(read_gains(runs), alpha=0.01)
    assert [p["gain"] for p in trend.points] == [0.1, 0.02] and trend.verdict == "shifted"
    assert trend.points[0]["low"] == pytest.approx(0.096) and trend.points[0]["high"] == pytest.approx(0.104)


def test_gains_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"requires evaluation.json. Make it with 'tfmeta evaluate"):
        read_gains([str(tmp_path)])
    write_json(str(tmp_path / "evaluation.json"), environment={}, rows=[
        {"state": "warm", "role": "reference", "model": "m", "k": "all", "metric": "auc", "value": 0.7}])
    with pytest.raises(DataError, match="requires rows of a learner"):
        read_gains([str(tmp_path)])
    write_json(str(tmp_path / "evaluation.json"), environment={}, rows=[{"speed": 1.0}])
    with pytest.raises(DataError, match=r"evaluation.json': Evaluation row 0 requires state"):
        read_gains([str(tmp_path)])
    with pytest.raises(DataError, match="Gains require the columns period, state, metric, gain"):
        gain_trend(pd.DataFrame({"period": ["a"]}), alpha=0.01)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--current", "2023-11-29"], "--current requires days as FIRST:LAST"),
    (["--current", "2023-11-29:2023-11-01"], "requires a last day not before the first"),
    (["--current", "2030-01-01:"], "The current window requires outcomes from 2030-01-01 to the last day, received "
     "none; the log has outcomes from 2023-11-15 to 2023-12-05."),
    (["--days", "0"], "'--days' requires at least 1, received 0"),
    (["--days", "30"], "The reference window requires outcomes"),
    (["--runs", "nowhere"], "Run 'nowhere' requires evaluation.json"),
])
def test_mistakes_are_one_line(log, arguments, message, capsys):
    assert main(["drift", "--log", log, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_log_without_outcomes(tmp_path, capsys):
    EventLog.create(tmp_path / "log", drift_spec())
    assert main(["drift", "--log", str(tmp_path / "log")]) == 2
    assert "requires outcomes, event log" in capsys.readouterr().err
    assert EventLog.open(tmp_path / "log").outcomes(datetime.date(2020, 1, 1)).empty
