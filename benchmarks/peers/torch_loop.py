"""W1 in PyTorch as learn2learn does it: a loop over the tasks, weights cloned for each, autograd.grad inside."""

import numpy as np
import torch

from benchmarks.peers.torch_common import Parameters, forward, run_worker, task_rows
from benchmarks.peers.worker import arguments


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    parameters = Parameters(dict(np.load(args.arrays)))
    second_order = args.order == 2

    def squared_error(dense, x, label):
        return torch.mean(torch.square(forward(dense, x) - label))

    def mean_loss(batch):
        support, query = task_rows(parameters.table, batch)
        losses = []
        for task in range(len(support)):
            dense = [w.clone() for w in parameters.dense]
            for _ in range(args.inner_steps):
                loss = squared_error(dense, support[task], batch["support_label"][task])
                gradient = torch.autograd.grad(loss, dense, create_graph=second_order, retain_graph=second_order)
                dense = [w - parameters.inner_rate * g for w, g in zip(dense, gradient, strict=True)]
            losses.append(squared_error(dense, query[task], batch["query_label"][task]))
        return torch.stack(losses).mean()

    run_worker(parameters, mean_loss)


if __name__ == "__main__":
    main()
