"""W1 in tfmeta: the training loop's outer step, as a worker beside those of `benchmarks/peers`."""

import argparse
import os

from benchmarks.peers.worker import bind, serve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inner-steps", type=int, default=5)
    parser.add_argument("--order", type=int, choices=(1, 2), default=2)
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--support", type=int, default=20)
    parser.add_argument("--query", type=int, default=10)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--adam", choices=("lazy", "dense"), default="lazy",
                        help="lazy is the product's; dense updates whole tables, as the peers do")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("W1_THREADS", "2")))
    args = parser.parse_args()
    bind(args.threads)

    import keras
    import numpy as np
    import tensorflow as tf

    from benchmarks import w1
    from trainer.tensor_memory import keep_tensor_memory

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    with keep_tensor_memory():
        tf.config.list_logical_devices()
    setting = w1.W1(inner_steps=args.inner_steps, tasks=args.tasks, order=args.order, support=args.support,
                    query=args.query, batches=args.batches, seed=args.seed)
    outer = w1.outer_step(setting, w1.build(setting), dense=args.adam == "dense", xla=True)
    batches = w1.batches(setting)

    def step(number: int) -> tf.Tensor:
        return outer(batches[number % len(batches)])

    serve(step, loss=lambda total: float(total) / args.tasks, wait=lambda total: total.numpy(),
          versions={"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__})


if __name__ == "__main__":
    main()
