"""What the PyTorch workers share."""

import numpy as np
import torch

from benchmarks.peers.worker import serve

_BATCH = ("user", "support_item", "query_item", "support_label", "query_label")


class Parameters:
    """W1's slow weights and tasks as tensors.

    Attributes:
      table: `[R, 32]`.
      dense: kernel and bias of each layer in turn.
      inner_rate, outer_rate: learning rates.
      batches: the meta-batches.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        layers = sum(name.startswith("kernel_") for name in arrays)
        self.table = torch.tensor(arrays["table"], requires_grad=True)
        self.dense = [torch.tensor(arrays[f"{part}_{i}"], requires_grad=True)
                      for i in range(layers) for part in ("kernel", "bias")]
        self.inner_rate, self.outer_rate = float(arrays["inner_rate"]), float(arrays["outer_rate"])
        self.batches = [{name: torch.tensor(arrays[name][k]) for name in _BATCH} for k in range(len(arrays["user"]))]


def forward(dense: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Rows `[N, 256]` -> outputs `[N]`."""
    for i in range(0, len(dense) - 2, 2):
        x = torch.relu(x @ dense[i] + dense[i + 1])
    return (x @ dense[-2] + dense[-1])[:, 0]


def task_rows(table: torch.Tensor, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Embeds support and query of all tasks: `[B, S, 256]` and `[B, Q, 256]`."""
    user = torch.nn.functional.embedding(batch["user"], table).flatten(1)
    rows = []
    for items in (batch["support_item"], batch["query_item"]):
        item = torch.nn.functional.embedding(items, table).flatten(2)
        rows.append(torch.cat([user[:, None, :].expand(-1, item.shape[1], -1), item], dim=2))
    return rows


def run_worker(parameters: Parameters, mean_loss) -> None:
    """Minimises `mean_loss` (meta-batch -> scalar) by Adam, on command."""
    optimizer = torch.optim.Adam([parameters.table, *parameters.dense], lr=parameters.outer_rate, eps=1e-7)

    def step(number: int) -> torch.Tensor:
        optimizer.zero_grad()
        loss = mean_loss(parameters.batches[number % len(parameters.batches)])
        loss.backward()
        optimizer.step()
        return loss.detach()

    serve(step, loss=float, wait=lambda _: None, versions={"torch": torch.__version__, "numpy": np.__version__})
