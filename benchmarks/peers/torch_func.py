"""W1 in torch.func: vmap over the tasks, grad inside, autograd outside."""

import numpy as np
import torch
from torch.func import grad, vmap

from benchmarks.peers.torch_common import Parameters, forward, run_worker, task_rows
from benchmarks.peers.worker import arguments


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    parameters = Parameters(dict(np.load(args.arrays)))

    def squared_error(dense, x, label):
        return torch.mean(torch.square(forward(dense, x) - label))

    def task_loss(support, query, support_label, query_label):
        dense = parameters.dense
        for _ in range(args.inner_steps):
            gradient = grad(squared_error)(dense, support, support_label)
            if args.order == 1:
                gradient = [g.detach() for g in gradient]
            dense = [w - parameters.inner_rate * g for w, g in zip(dense, gradient, strict=True)]
        return squared_error(dense, query, query_label)

    def mean_loss(batch):
        support, query = task_rows(parameters.table, batch)
        return vmap(task_loss)(support, query, batch["support_label"], batch["query_label"]).mean()

    run_worker(parameters, mean_loss)


if __name__ == "__main__":
    main()
