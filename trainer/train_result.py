"""What a training run came to."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """A complete run.

    Attributes:
      run: its directory.
      hash: SHA-256 over final weights, configuration and feature specification; equal runs have equal hashes.
      epochs: epochs trained.
      steps: outer steps done.
      best_epoch: epoch of the final weights, from 1.
      metric, best: what chose them and its value; None where the last weights were taken.
      seconds: of training, over all resumptions.
      stopped_early: whether early stopping ended it.
      history: one record per epoch.
    """

    run: str
    hash: str
    epochs: int
    steps: int
    best_epoch: int
    metric: str | None
    best: float | None
    seconds: float
    stopped_early: bool
    history: tuple[dict, ...] = dataclasses.field(repr=False, default=())
