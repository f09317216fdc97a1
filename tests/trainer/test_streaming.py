"""Training from interactions that do not fit memory."""

import json
import pathlib

import numpy as np
import pytest
from tiny_prepared import SMALL

from tfmeta.data.build_task_sampler import build_task_sampler
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.streaming_task_sampler import StreamingTaskSampler
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.errors import ConfigError
from trainer import loop
from trainer.config import load_config

# About 800 interactions, 40 users, 5 steps an epoch.
CONFIG = SMALL | {"epochs": 3, "early_stopping": None, "tensorboard": {"enabled": False},
                  "checkpoint": {"every_steps": 2},
                  "sampler": SMALL["sampler"] | {"max_rows_in_memory": 500}}


def test_the_data_decide_how_they_are_read(tiny_data):
    prepared = PreparedData(tiny_data)
    options = dict(label=prepared.feature_spec.label, seed=3)
    samplers = {}
    for bound in (None, len(prepared.train), len(prepared.train) - 1):
        config = load_config(CONFIG, overrides=[f"sampler.max_rows_in_memory={json.dumps(bound)}"]).sampler
        samplers[bound] = build_task_sampler(prepared, config=config, **options)
    kinds = [type(s) for s in samplers.values()]
    assert kinds == [TaskSampler, TaskSampler, StreamingTaskSampler]
    with pytest.raises(ConfigError, match="max_rows_in_memory"):
        build_task_sampler(prepared, config=load_config(CONFIG, overrides=["sampler.max_rows_in_memory=100"]).sampler,
                           **options)


def test_a_streaming_run_cut_off_within_a_window_resumes_to_the_same_bits(tiny_data, tmp_path, monkeypatch):
    config = load_config(CONFIG)
    whole = loop.train(config=config, data=tiny_data, run=str(tmp_path / "whole"), progress=False)
    save = loop._Training._save

    def cut(self):
        save(self)
        if int(self._step.step) == 7:
            raise InterruptedError

    monkeypatch.setattr(loop._Training, "_save", cut)
    with pytest.raises(InterruptedError):
        loop.train(config=config, data=tiny_data, run=str(tmp_path / "cut"), progress=False)
    monkeypatch.undo()
    resumed = loop.train(config=config, data=tiny_data, run=str(tmp_path / "cut"), resume=True, progress=False)
    assert whole.hash == resumed.hash
    assert [r["train_loss"] for r in whole.history] == [r["train_loss"] for r in resumed.history]


def test_a_failed_step_of_a_streaming_run_keeps_its_batch(tiny_data, tmp_path):
    from tfmeta.errors import RunError

    config = load_config(CONFIG, overrides=["optimizer.learning_rate=1e30", "optimizer.clip_norm=null"])
    with pytest.raises(RunError, match=r"step_\d+\.npz"):
        loop.train(config=config, data=tiny_data, run=str(tmp_path / "run"), progress=False)
    (path,) = (tmp_path / "run" / "nan").glob("step_*.npz")
    with np.load(path) as kept:
        assert kept["query_row"].shape == (8, 4)


@pytest.mark.slow
def test_training_for_many_epochs_takes_the_memory_of_a_few(tiny_data, tmp_path):
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc to read resident memory")
    found = []

    def record(_):
        lines = status.read_text(encoding="ascii").splitlines()
        found.append(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")))

    config = load_config(CONFIG, overrides=["epochs=80", "checkpoint.every_steps=null"])
    loop.train(config=config, data=tiny_data, run=str(tmp_path / "run"), progress=False, on_epoch=record)
    assert len(found) == 80 and found[-1] - found[29] < 16, found
