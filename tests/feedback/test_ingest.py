"""`tfmeta ingest`: what it prints, and what a kill half-way leaves."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pandas as pd
import pytest
from event_cases import as_logged, make_outcomes, make_spec

from tfmeta.cli import main
from trainer.feedback.event_log import EventLog

# Kills its own process in place of the given renaming of a finished file.
KILLED = """
import os, signal, sys
real, left = os.replace, [int(sys.argv[1])]
def replace(*args):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
os.replace = replace
from tfmeta.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def files(tmp_path):
    """A specification and two files of outcomes that share some events, one of them bad."""
    (tmp_path / "feature_spec.json").write_text(make_spec().to_json(), "utf-8")
    frame = make_outcomes(120)
    frame.iloc[:80].to_csv(tmp_path / "a.csv", index=False)
    last = frame.iloc[[-1]].assign(user=None)
    pd.concat([frame.iloc[60:], last]).to_parquet(tmp_path / "b.parquet")
    return tmp_path


def contents(log: pathlib.Path) -> dict[str, bytes]:
    """Every file of a log but the ledger, which has the time of day."""
    return {str(p.relative_to(log)): p.read_bytes() for p in sorted(log.rglob("*"))
            if p.is_file() and "ledger" not in p.parts}


@pytest.fixture
def command(files):
    """Arguments that ingest both files into a log."""
    def make(log: str) -> list[str]:
        return ["ingest", "--log", str(files / log), "--outcomes", str(files / "a.csv"), str(files / "b.parquet"),
                "--json"]

    EventLog.create(files / "whole", make_spec())
    assert main(make("whole")) == 0
    return make


# a: three parts, the ledger's entry; b: two parts, the quarantine, the ledger's entry.
@pytest.mark.parametrize("rename", [3, 4, 6, 8])
def test_kill_and_run_again(files, command, rename, repository, capsys):
    EventLog.create(files / "log", make_spec())
    done = subprocess.run([sys.executable, "-c", KILLED, str(rename), *command("log")], cwd=repository,
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    # A reader sees whole files only, whatever lies about.
    seen = EventLog.open(files / "log").outcomes()
    expected = as_logged(make_outcomes(120).iloc[:80 if rename > 4 else 0])
    pd.testing.assert_frame_equal(seen, expected)

    capsys.readouterr()
    assert main(command("log")) == 0
    report = json.loads(capsys.readouterr().out)["outcomes"]
    assert report["taken"] == (120 if rename <= 4 else 40)
    assert report["known_files"] == (0 if rename <= 4 else 1)
    pd.testing.assert_frame_equal(EventLog.open(files / "log").outcomes(), as_logged(make_outcomes(120)))
    assert contents(files / "log") == contents(files / "whole")  # nothing lost, doubled or left over
    ledger = {p.name for p in (files / "log" / "ledger").iterdir()}
    assert ledger == {p.name for p in (files / "whole" / "ledger").iterdir()} and len(ledger) == 2


def test_report_for_people_and_programs(files, capsys):
    pd.DataFrame({"user": ["1"], "country": ["de"]}).to_csv(files / "users.csv", index=False)
    pd.DataFrame({"product": ["1"], "price": ["cheap"], "tags": ["a|b"], "name": ["One"]}).to_csv(
        files / "items.csv", index=False)
    (files / "requests.jsonl").write_text(
        '{"user": "1", "product": ["1", "2"], "score": [4.5, 3], "time": 1700006400}\n', "utf-8")
    arguments = ["ingest", "--log", str(files / "log"), "--spec", str(files), "--outcomes", str(files / "*.csv")[:-5]
                 + "a.csv", str(files / "b.parquet"), "--users", str(files / "users.csv"), "--items",
                 str(files / "items.csv"), "--requests", str(files / "requests.jsonl")]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "outcomes  2 files: 141 rows, 120 taken, 20 duplicates, 1 quarantined" in text
    assert "days 2023-11-15 to 2023-11-18" in text and "data row 60, missing_user_id" in text
    assert "items     1 files: 1 rows, 1 taken" in text and "bad_feature:price: 1" in text
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["outcomes"] | {"first_bad": None} == {
        "read": 141, "taken": 0, "duplicates": 140, "quarantined": {"missing_user_id": 1}, "replaced": {},
        "partitions": [], "files": 2, "known_files": 2, "unreadable": {}, "first_bad": None}
    assert result["requests"]["duplicates"] == 2
    assert result["outcomes"]["first_bad"]["row"] == 60


@pytest.mark.parametrize(("arguments", "message"), [
    (["--outcomes", "{}/none-*.csv"], "No file matches 'none-*.csv'"),
    (["--outcomes", "{}/a.csv", "--column", "time"], "--column requires the form COLUMN=NAME, received 'time'"),
    (["--outcomes", "{}/a.csv", "--column", "time=when"], "requires column 'when' (time)"),
    ([], "requires at least one of --requests"),
    (["--outcomes", "{}/a.csv", "--without", "prize"], "no feature 'prize'. Did you mean 'price'?"),
    (["--outcomes", "{}/a.csv", "--spec", "{}/a.csv"], "requires JSON"),
    (["--users", "{}/a.csv"], "requires column 'country'"),
    (["--outcomes", "{}/cut.parquet"], "cut.parquet' cannot be read"),
    (["--outcomes", "{}/a.csv", "--max-bad-share", "2"], "'max_bad_share' requires a share from 0 to 1, received 2.0"),
])
def test_mistakes_are_one_line(files, arguments, message, capsys):
    (files / "cut.parquet").write_bytes((files / "b.parquet").read_bytes()[:100])
    arguments = [a.format(files) for a in arguments]
    code = main(["ingest", "--log", str(files / "log"), "--spec", str(files), *arguments])
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1


def test_log_without_features_that_preparation_added(files, capsys):
    assert main(["ingest", "--log", str(files / "log"), "--spec", str(files), "--without", "price", "--outcomes",
                 str(files / "a.csv")]) == 0
    assert [f.name for f in EventLog.open(files / "log").feature_spec.item_features] == ["tags"]


def test_first_ingest_needs_features(files, capsys):
    assert main(["ingest", "--log", str(files / "log"), "--outcomes", str(files / "a.csv")]) == 2
    assert "is not an event log" in capsys.readouterr().err
