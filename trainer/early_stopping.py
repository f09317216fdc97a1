"""Decides which epoch was best and when to stop."""

import dataclasses
import math

from tfmeta.errors import ConfigError, suggest
from trainer.config import EarlyStoppingConfig

# What gets better as it falls; every other metric gets better as it rises.
_LOWER_IS_BETTER = ("loss", "logloss", "mae", "rmse")


@dataclasses.dataclass
class EarlyStopping:
    """The best value so far, and for how many validations there was none better.

    Attributes:
      metric: key of the history.
      patience: validations without improvement before stopping; None never stops.
      min_delta: smallest improvement that counts.
      best: best value, None before the first.
      best_epoch: its epoch, from 1.
      waited: validations since.
    """

    metric: str
    patience: int | None = None
    min_delta: float = 0.0
    best: float | None = None
    best_epoch: int | None = None
    waited: int = 0

    @classmethod
    def create(cls, config: EarlyStoppingConfig, *, default: str) -> "EarlyStopping":
        """Returns the state before training; `default` is the metric where the configuration names none."""
        return cls(metric=config.metric or default, patience=config.patience, min_delta=config.min_delta)

    @property
    def lower_is_better(self) -> bool:
        return self.metric.removeprefix("val_").split("@")[0].rsplit("_", 1)[-1] in _LOWER_IS_BETTER

    def check_metric(self, known: list[str]) -> None:
        """Raises ConfigError unless the metric is among those that validation has."""
        if self.metric not in known:
            raise ConfigError(f"'early_stopping.metric' received '{self.metric}'.{suggest(self.metric, known)}")

    def update(self, values: dict, *, epoch: int) -> bool:
        """Takes in one validation and returns whether it is the best so far. NaN never is."""
        value = float(values[self.metric])
        gain = math.inf if self.best is None else (
            self.best - value if self.lower_is_better else value - self.best)
        if not math.isnan(value) and gain > self.min_delta:
            self.best, self.best_epoch, self.waited = value, epoch, 0
            return True
        self.waited += 1
        return False

    @property
    def should_stop(self) -> bool:
        return self.patience is not None and self.waited >= self.patience
