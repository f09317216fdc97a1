"""Workers that die, lag, disagree or prepare raw data, as users start them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from distribution_cases import CONFIG, free_ports, tf_config
from tiny_prepared import SMALL, write_tiny

from trainer.run_directory import RunDirectory

# Each test starts processes that import TensorFlow, up to ten of them.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LONG = CONFIG | {"epochs": 40, "checkpoint": {"every_steps": 2, "keep": 2}, "validation": {"every": 10}}


class Job:
    """Two workers of one command, or one process of it."""

    def __init__(self, repository, folder, *arguments, workers=2, each=((), ())):
        ports = free_ports(workers)
        self.processes, self.logs = [], []
        for index in range(workers):
            environment = {**os.environ, "PYTHONPATH": str(repository)}
            environment.pop("TF_CONFIG", None)
            if workers > 1:
                environment["TF_CONFIG"] = tf_config(ports, index)
            log = folder / f"{time.monotonic_ns()}.{index}.log"
            with open(log, "wb") as file:
                self.processes.append(subprocess.Popen(
                    [sys.executable, "-m", *map(str, arguments), *map(str, each[index])], env=environment,
                    stdout=file, stderr=subprocess.STDOUT))
            self.logs.append(log)

    def codes(self) -> list[int]:
        return [process.wait(900) for process in self.processes]

    def errors(self, index: int) -> list[str]:
        """The lines that the command itself wrote about a mistake."""
        return [line for line in self.logs[index].read_text().splitlines() if ": error: " in line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failures")
    write_tiny(folder / "data")
    (folder / "long.yaml").write_text(json.dumps(LONG))
    return folder


def train(repository, folder, out, **options) -> Job:
    return Job(repository, folder, "tfmeta", "train", "--config", folder / "long.yaml", "--data", folder / "data",
               "--out", folder / out, "--resume", **options)


def wait_for_epoch(run, epoch: int, job: Job) -> None:
    path = run / "history.jsonl"
    while not path.exists() or len(path.read_text().splitlines()) < epoch:
        assert all(process.poll() is None for process in job.processes), [p.read_text() for p in job.logs]
        time.sleep(0.02)


def comparable(run) -> list[dict]:
    return [{k: v for k, v in record.items() if k not in ("seconds", "tasks_per_s")}
            for record in RunDirectory.open(str(run)).history()]


def test_killed_workers_and_a_lagging_one_change_nothing(repository, folder):
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    assert train(repository, folder, "undisturbed").codes() == [0, 0]

    for victim, epoch in ((1, 10), (0, 20)):
        job = train(repository, folder, "killed")
        wait_for_epoch(killed, epoch, job)
        job.processes[victim].send_signal(signal.SIGKILL)
        codes = job.codes()
        assert codes[victim] == -signal.SIGKILL and codes[1 - victim] == 2, job.logs[1 - victim].read_text()
        [line] = job.errors(1 - victim)
        assert f"requires all 2 workers: worker {1 - victim}" in line and "with --resume" in line
        assert not (killed / "run.json").exists()
        assert len(RunDirectory.open(str(killed), allow_incomplete=True).history()) < LONG["epochs"]
    job = train(repository, folder, "killed")
    wait_for_epoch(killed, 28, job)
    # One that only lags is waited for.
    job.processes[1].send_signal(signal.SIGSTOP)
    time.sleep(5)
    job.processes[1].send_signal(signal.SIGCONT)
    assert job.codes() == [0, 0]

    assert comparable(killed) == comparable(undisturbed)
    assert RunDirectory.open(str(killed)).summary["hash"] == RunDirectory.open(str(undisturbed)).summary["hash"]

    # Started once more, a complete run is left as it is, by one process too.
    before = (killed / "run.json").read_bytes()
    assert train(repository, folder, "killed", workers=1).codes() == [0]
    assert (killed / "run.json").read_bytes() == before


def test_two_workers_go_on_with_what_one_process_began(repository, folder):
    run = folder / "moved"
    job = train(repository, folder, "moved", workers=1)
    wait_for_epoch(run, 20, job)
    job.processes[0].send_signal(signal.SIGKILL)
    assert job.codes() == [-signal.SIGKILL]
    assert train(repository, folder, "moved").codes() == [0, 0]
    losses = [record["train_loss"] for record in comparable(run)]
    assert len(losses) == LONG["epochs"] and losses[-1] < 0.9 * losses[0]


def test_mistakes_are_one_line_on_every_worker_and_write_nothing(repository, folder):
    job = train(repository, folder, "differing", each=((), ("--set", "optimizer.learning_rate=0.02")))
    assert job.codes() == [2, 2]
    for index in range(2):
        [line] = job.errors(index)
        assert "differ in optimizer.learning_rate: 0.01 and 0.02" in line
    job = train(repository, folder, "differing", each=(("--set", "sampler.meta_batch_size=7"),) * 2)
    assert job.codes() == [2, 2]
    for index in range(2):
        [line] = job.errors(index)
        assert "multiple of the number of replicas (2 on 2 workers), received 7" in line and "take 6 or 8" in line
    assert not (folder / "differing").exists()


def test_a_taken_directory_is_an_error_on_every_worker(repository, folder):
    taken = folder / "taken"
    taken.mkdir()
    (taken / "something").touch()
    job = Job(repository, folder, "tfmeta", "train", "--config", folder / "long.yaml", "--data", folder / "data",
              "--out", taken)
    assert job.codes() == [2, 2]
    assert "exists already" in job.errors(0)[0] and "exists already" in job.errors(1)[0]


def test_training_job_prepares_once_trains_on_all_and_exports_once(repository, folder):
    rng = np.random.default_rng(3)
    raw = pd.DataFrame([{"user": f"u{u}", "movie": f"i{i}", "rating": int(rng.integers(1, 6)), "age": 20 + u % 40,
                         "genre": "abc"[i % 3]} for u in range(60) for i in rng.choice(60, 30, replace=False)])
    raw.to_csv(folder / "raw.csv", index=False)
    (folder / "schema.yaml").write_text(
        "label: {name: rating, unit: rating, minimum: 1, maximum: 5, threshold: 4}\nuser_id: user\nitem_id: movie\n"
        "user_features: [{name: age, kind: numeric}]\nitem_features: [{name: genre, kind: categorical}]\n")
    (folder / "job.yaml").write_text(json.dumps(SMALL | {"epochs": 1}))
    arguments = ("trainer.task", "--config", folder / "job.yaml", "--schema", folder / "schema.yaml", "--data",
                 folder / "raw.csv", "--work-dir", folder / "job", "--model-dir", folder / "job" / "model", "--json")
    for _ in range(2):
        job = Job(repository, folder, *arguments)
        assert job.codes() == [0, 0], [log.read_text() for log in job.logs]
    assert {"saved_model.pb", "variables"} <= {p.name for p in (folder / "job" / "model").iterdir()}
    results = [[json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
               for log in job.logs]
    [reported] = results[0]
    assert reported["model_dir"] == str(folder / "job" / "model") and results[1] == []
    verified = Job(repository, folder, "tfmeta", "verify", folder / "job" / "model", workers=1)
    assert verified.codes() == [0], verified.logs[0].read_text()


def test_a_loss_that_is_not_finite_ends_all_workers_alike(repository, folder):
    job = train(repository, folder, "diverged", each=(("--set", "optimizer.learning_rate=1e30"),) * 2)
    assert job.codes() == [2, 2]
    [first], [second] = job.errors(0), job.errors(1)
    assert "requires a finite loss and gradient" in first and first == second
    [kept] = (folder / "diverged" / "nan").iterdir()
    assert str(kept) in first
