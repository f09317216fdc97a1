"""A run killed at any moment and resumed ends with the bits of one that was never killed."""

import json
import multiprocessing
import os
import pathlib
import signal
import sys
import time

import numpy as np
import pytest
from tiny_prepared import SMALL, write_tiny

CONFIG = SMALL | {"epochs": 6, "checkpoint": {"every_steps": 1, "keep": 2}, "tensorboard": {"enabled": False},
                  "early_stopping": {"patience": 5}, "optimizer": {"learning_rate": 0.02, "schedule": "cosine"}}


def work(data, run, config, kill_at):
    """Trains in a child process; `kill_at` is (where, which call of it is the last)."""
    import tensorflow as tf

    import trainer.loop
    from trainer.config import load_config

    if kill_at:
        where, count = kill_at
        owner, name = {
            # The files of the checkpoint are there, but nothing names it yet.
            "inside checkpoint": (tf.train.Checkpoint, "_write"),
            "after best weights": (trainer.loop, "save_weights"),
            "after history": (trainer.loop, "write_history"),
            "before run.json": (trainer.loop, "hash_run"),
        }[where]
        original, left = getattr(owner, name), [count]

        def patched(*args, **kwargs):
            left[0] -= 1
            result = original(*args, **kwargs)
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, patched)
    trainer.loop.train(config=load_config(config), data=data, run=run, resume=True, progress=False)


@pytest.fixture(scope="module")
def context():
    """Children are forked from one process that has imported TensorFlow but not started it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.loop"])
    process = context.Process(target=trainer_is_imported)
    process.start()
    process.join()
    assert process.exitcode == 0  # otherwise every child would import TensorFlow by itself
    return context


def trainer_is_imported():
    sys.exit("trainer.loop" not in sys.modules)


def start(context, *args):
    process = context.Process(target=work, args=args)
    process.start()
    return process


def finish(process):
    process.join()
    return process.exitcode


def checkpoint_files(run):
    return sorted(p.name for p in (run / "checkpoints").glob("*"))


def outcome(run):
    summary = json.loads((run / "run.json").read_text())
    with np.load(run / "weights.npz") as weights:
        values = {name: weights[name] for name in weights.files}
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    for record in history:
        del record["seconds"], record["tasks_per_s"]
    return summary["hash"], values, history, summary["best_epoch"]


def test_killed_and_resumed_equals_uninterrupted(tmp_path, context):
    data = write_tiny(tmp_path / "data")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(start(context, data, str(whole), CONFIG, None)) == 0

    # At random moments, from the outside, soon after a checkpoint has begun to appear.
    rng = np.random.default_rng(11)
    for _ in range(2):
        before = checkpoint_files(killed)
        process = start(context, data, str(killed), CONFIG, None)
        while checkpoint_files(killed) == before and process.is_alive():
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0.0, 0.2)))
        process.kill()
        assert finish(process) == -signal.SIGKILL
        assert not (killed / "run.json").exists()
    # At chosen points, one after the other, in the same run.
    for point in [("inside checkpoint", 3), ("after best weights", 1), ("after history", 1), ("before run.json", 1)]:
        assert finish(start(context, data, str(killed), CONFIG, point)) == -signal.SIGKILL, point
        assert not (killed / "run.json").exists()
    assert finish(start(context, data, str(killed), CONFIG, None)) == 0

    expected, received = outcome(whole), outcome(killed)
    assert expected[2] == received[2]
    for name, value in expected[1].items():
        np.testing.assert_array_equal(value, received[1][name], err_msg=name)
    assert expected[0] == received[0] and expected[3] == received[3]
    assert len(list((killed / "checkpoints").glob("*.index"))) <= 2
    assert not list(pathlib.Path(killed).rglob("*.tmp"))
