"""A job that is killed goes on where it was, and neither loses nor doubles a row."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from batch_cases import make_candidates, make_log, read_parts, run_job

# Waits before each shard but the first two, so that there is a time to be killed at.
SLOW = """
import sys, time
from tfmeta.batch import score_shard
real = score_shard.ScoreShard._answer
def slow(self, shard, staged, part):
    result = real(self, shard, staged, part)
    if shard >= 2:
        time.sleep(60)
    return result
score_shard.ScoreShard._answer = slow
from tfmeta.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    make_log().to_parquet(folder / "log.parquet")
    make_candidates().to_parquet(folder / "candidates.parquet")
    return {"interactions": folder / "log.parquet", "candidates": folder / "candidates.parquet"}


def test_kill_half_way_and_run_again(files, model, tmp_path, repository):
    whole, out = tmp_path / "whole", tmp_path / "out"
    run_job(model, whole, shards=4, **files)
    arguments = ["batch-score", "--model", model, "--interactions", str(files["interactions"]), "--candidates",
                 str(files["candidates"]), "--out", str(out), "--shards", "4", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *arguments], cwd=repository, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        done = out / "_work" / "done"
        deadline = time.monotonic() + 300
        # The shard that waits has all its rows in a file with another name.
        while not (len(list(done.glob("*.json"))) == 2 and list(out.glob(".part-*.tmp"))):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert len(list(out.glob("part-*"))) == 2 and not (out / "_summary.json").exists()
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("part-*")}

    summary = run_job(model, out, shards=4, **files)
    assert summary["complete"] and not list(out.glob(".part-*")) and not (out / "_work").exists()
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before  # not made again
    pd.testing.assert_frame_equal(read_parts(out), read_parts(whole))

    # And once more: there is nothing to do.
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("*")}
    assert run_job(model, out, shards=4, **files)["rows"] == summary["rows"]
    assert {p.name: p.stat().st_mtime_ns for p in out.glob("*")} == after
