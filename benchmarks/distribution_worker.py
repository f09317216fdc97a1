"""W1's outer step in one process of a cluster, or alone, as a live worker of `benchmarks/distribution.py`."""

import argparse
import contextlib
import os

from benchmarks.peers.worker import serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", help="TF_CONFIG of this process; alone without it")
    parser.add_argument("--processors", type=int, nargs="+", help="that this process may use")
    parser.add_argument("--inner-steps", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=256, help="of the meta-batch of all processes")
    args = parser.parse_args()
    if args.processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, args.processors)

    import keras
    import tensorflow as tf

    from benchmarks import w1
    from trainer.distribution.cluster import Cluster
    from trainer.distribution.open_distribution import open_distribution

    if args.processors:
        tf.config.threading.set_intra_op_parallelism_threads(len(args.processors))
    distribution = open_distribution("auto", cluster=Cluster.read({"TF_CONFIG": args.cluster or ""}))
    setting = w1.W1(inner_steps=args.inner_steps, tasks=args.tasks, batches=10)
    with distribution.scope() if distribution.strategy else contextlib.nullcontext():
        recommender = w1.build(setting)
    outer = w1.outer_step(setting, recommender, strategy=distribution.strategy)
    batches = w1.batches(setting)

    def step(number: int) -> tf.Tensor:
        return outer(batches[number % len(batches)])

    serve(step, loss=lambda total: float(total) / args.tasks, wait=lambda total: total.numpy(),
          versions={"tensorflow": tf.__version__, "keras": keras.__version__})


if __name__ == "__main__":
    main()
