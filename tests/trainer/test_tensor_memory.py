"""Memory of tensors that TensorFlow keeps from step to step."""

import os
import pathlib
import subprocess
import sys

import pytest
from tiny_prepared import write_tiny

from trainer.tensor_memory import keep_tensor_memory

ROOT = pathlib.Path(__file__).parents[2]
NAMES = ("TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB")
# Two tensors of 64 MiB a step: malloc gives them back.
FAULTS = """
import resource, sys
from trainer.loop import train
import tensorflow as tf
step = tf.function(lambda x: tf.reduce_sum(tf.fill([64 << 18], x)) + tf.reduce_max(tf.fill([64 << 18], x)))
if len(sys.argv) == 3:
    from trainer.config import load_config
    train(config=load_config(None, overrides=["epochs=1"]), data=sys.argv[1], run=sys.argv[2], progress=False)
step(tf.constant(1.0))
step(tf.constant(2.0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(5):
    step(tf.constant(float(number)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments):
    # Where a processor makes TensorFlow choose oneDNN, its allocator keeps memory by itself.
    environment = {**{k: v for k, v in os.environ.items() if k not in NAMES}, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run([sys.executable, "-c", FAULTS, *arguments], cwd=ROOT, env=environment, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts what glibc's malloc gives back")
def test_in_a_process_that_trains_a_step_finds_the_memory_of_the_one_before(tmp_path):
    data, run = write_tiny(tmp_path / "prepared"), str(tmp_path / "run")
    without = page_faults()
    assert without > 1000
    assert page_faults(data, run) < without / 10


def test_environment_is_as_before_afterwards(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    with keep_tensor_memory():
        assert os.environ[NAMES[0]] == "1" and int(os.environ[NAMES[1]]) > 0
        with keep_tensor_memory():
            pass
        assert os.environ[NAMES[0]] == "1"
    assert not set(NAMES) & set(os.environ)


def test_own_settings_stay(monkeypatch):
    monkeypatch.setenv(NAMES[0], "0")
    monkeypatch.delenv(NAMES[1], raising=False)
    with keep_tensor_memory():
        assert os.environ[NAMES[0]] == "0" and NAMES[1] not in os.environ
    monkeypatch.delenv(NAMES[0])
    monkeypatch.setenv(NAMES[1], "100")
    with keep_tensor_memory():
        assert (os.environ[NAMES[0]], os.environ[NAMES[1]]) == ("1", "100")
    assert NAMES[0] not in os.environ and os.environ[NAMES[1]] == "100"
