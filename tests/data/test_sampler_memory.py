"""Memory does not grow with the number of epochs."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from test_streaming_task_sampler import write

from tfmeta.data.interactions import Interactions

MEBI = 1024


def measure(kind, folder, *, rows, max_rows, epochs, rounds):
    """Returns resident memory in KiB after each round of epochs."""
    rng = np.random.default_rng(0)
    path = folder / "train.parquet"
    user = np.sort(rng.integers(0, rows // 40, rows)).astype(np.int32)
    write(Interactions(user_row=user, item_row=rng.integers(0, 500, rows).astype(np.int32),
                       label=rng.integers(1, 6, rows).astype(np.float32), time=np.zeros(rows, np.int64)),
          str(path), group=rows // 20, aligned=True)
    script = pathlib.Path(__file__).parent / "sampler_memory.py"
    # An arena for every thread that ever ran would count as growth.
    done = subprocess.run([sys.executable, str(script), kind, str(path), *map(str, (max_rows, epochs, rounds))],
                          check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "MALLOC_ARENA_MAX": "1"})
    return json.loads(done.stdout)


@pytest.mark.serial
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc to read resident memory")
@pytest.mark.parametrize("kind", ["memory", "streaming"])
def test_fifty_epochs_need_the_memory_of_ten(kind, tmp_path):
    found = measure(kind, tmp_path, rows=60_000, max_rows=16_000, epochs=10, rounds=6)
    # A window has 64 KiB: one that leaked in each of about ten windows an epoch would add 25 MiB and 30 MiB. What one
    # moment holds more than another is in one of the last two figures at most.
    assert min(found[-2:]) - found[0] < 12 * MEBI, found


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc to read resident memory")
@pytest.mark.parametrize("kind", ["memory", "streaming"])
def test_large_data_over_many_epochs(kind, tmp_path):
    found = measure(kind, tmp_path, rows=4_000_000, max_rows=800_000, epochs=3, rounds=6)
    # Ten windows of 3 MiB an epoch: leaking them would add 480 MiB.
    assert found[-1] - found[0] < 40 * MEBI, found
