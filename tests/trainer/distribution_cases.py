"""Trains in child processes: one device, two logical devices, or a cluster on the loop-back interface."""

import json
import multiprocessing
import os
import socket
import sys
import time

import numpy as np
from tiny_prepared import SMALL

# 37 users are tasks, so the last batch of an epoch has 5: two replicas get 3 and 2 of them.
CONFIG = SMALL | {"sampler": {"query_size": 4, "min_interactions": 14, "meta_batch_size": 8},
                  "optimizer": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.01, "clip_norm": 0.5},
                  "early_stopping": None, "tensorboard": {"enabled": False}}


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tf_config(ports: list[int], index: int) -> str:
    """Returns the TF_CONFIG of one worker."""
    return json.dumps({"cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
                       "task": {"type": "worker", "index": index}})


def forkserver():
    """Children are forked from one process that has imported TensorFlow but not started it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.loop"])
    process = context.Process(target=_trainer_is_imported)
    process.start()
    process.join()
    assert process.exitcode == 0  # otherwise every child would import TensorFlow by itself
    return context


def _trainer_is_imported():
    sys.exit("trainer.loop" not in sys.modules)


def finish(processes) -> list[int]:
    """Waits for all; when one fails the others, which may wait for it, are ended."""
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):
            time.sleep(20)
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return [process.exitcode for process in processes]


def two_processors() -> None:
    """Makes two logical devices of this process's processor; before TensorFlow starts."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)


def work(data: str, run: str, config: dict, distribution: str, cluster: str | None = None) -> None:
    """Trains in this process and leaves what it came to in `run.<worker>.npz` and `.json`."""
    if cluster:
        os.environ["TF_CONFIG"] = cluster
    if distribution == "mirrored":
        two_processors()
    import trainer.loop
    from trainer.config import load_config
    from trainer.weights import weights_of

    trained = trainer.loop._Training.run

    def keep(self):
        result = trained(self)
        place = f"{run}.{self._distribution.cluster.number}"
        np.savez(f"{place}.npz", **weights_of(self._recommender))
        with open(f"{place}.json", "w") as file:
            json.dump(self._state.history, file)
        return result

    trainer.loop._Training.run = keep
    trainer.loop.train(config=load_config(config | {"distribution": distribution}), data=data, run=run, resume=True,
                       progress=False)


def outcome(run, number: int = 0):
    """Returns (history without times, weights) of one worker."""
    with open(f"{run}.{number}.json") as file:
        history = json.load(file)
    for record in history:
        del record["seconds"], record["tasks_per_s"]
    with np.load(f"{run}.{number}.npz") as stored:
        return history, {name: stored[name] for name in stored.files}
