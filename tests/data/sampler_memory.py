"""Run by test_sampler_memory in a process of its own: prints resident memory in KiB after each round of epochs.

    sampler_memory.py KIND FILE MAX_ROWS EPOCHS ROUNDS
"""

import ctypes
import gc
import json
import pathlib
import sys

from tfmeta.data.label import Label
from tfmeta.data.streaming_task_sampler import StreamingTaskSampler
from tfmeta.data.task_sampler import TaskSampler
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.data.training_rows import TrainingRows


def resident():
    gc.collect()
    # What is free goes back first: how much an allocator keeps depends on how threads happened to take turns.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def main(kind, path, max_rows, epochs, rounds):
    config = TaskSamplerConfig(max_rows_in_memory=max_rows, meta_batch_size=64)
    cls = StreamingTaskSampler if kind == "streaming" else TaskSampler
    sampler = cls(TrainingRows(path), config=config, label=Label(name="rating"))
    # One pipeline over all epochs, as in training.
    batches = sampler.batches(stop_step=epochs * rounds * sampler.steps_per_epoch)
    found = []
    for _ in range(rounds):
        for _ in range(epochs * sampler.steps_per_epoch):
            next(batches)
        found.append(resident())
    assert next(batches, None) is None
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
