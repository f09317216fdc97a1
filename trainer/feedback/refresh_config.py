"""Settings of a refresh."""

import dataclasses
from typing import Literal

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class RefreshConfig:
    """What is trained on, what is tested on, and what decides.

    Attributes:
      window_days: days of the event log that are new, the last ones.
      replay_share: share of old tasks in every meta-batch, against forgetting: users of the last run's data who have no
        event in the window.
      replay_users: at most so many of them are kept, a random choice; None for all.
      epochs: passes over the new tasks.
      learning_rate_factor: learning rate relative to that of the first run, to which all refreshes go back.
      test_share: share of the users who are new in the window that is tested on and not trained on, those who arrived
        last.
      query_size, min_interactions, max_interactions: of a test task, see `SplitConfig`; its query is the user's last
        interactions.
      min_new_tasks, min_test_users: with fewer, nothing is decided by so little data.
      metric: that decides; None takes `mae` for ratings, `ndcg@20` over the whole catalogue where the newest users'
        queries hold positives only, and `auc` otherwise.
      hold_share: the last run holds its gain from adaptation while the gain on the newest users is at least this share
        of what its own evaluation had.
      max_decline: the last run holds its quality while the metric on the newest users is worse than in its own
        evaluation by at most this share.
      min_improvement: by how much the refreshed model must be better than the old one, in the metric's unit.
      drift: least verdict of the drift report that calls for a refresh.
      gate: also ask the gate, see `export.gate`.
      seed: of every draw.
    """

    window_days: int = 28
    replay_share: float = 0.3
    replay_users: int | None = 100_000
    epochs: int = 10
    learning_rate_factor: float = 1.0
    test_share: float = 0.2
    query_size: int = 10
    min_interactions: int = 13
    max_interactions: int | None = None
    min_new_tasks: int = 50
    min_test_users: int = 30
    metric: Literal["mae", "auc", "ndcg@5", "ndcg@20", "recall@20"] | None = None
    hold_share: float = 0.8
    max_decline: float = 0.05
    min_improvement: float = 0.0
    drift: Literal["moderate", "shifted"] = "moderate"
    gate: bool = True
    seed: int = 0

    def __post_init__(self):
        for name in ("window_days", "epochs", "query_size", "min_new_tasks", "min_test_users"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(0 <= self.replay_share < 1, "replay_share", "a share in [0, 1)", self.replay_share)
        require(self.replay_users is None or self.replay_users >= 1, "replay_users", "at least 1, or none",
                self.replay_users)
        require(self.learning_rate_factor > 0, "learning_rate_factor", "a positive number", self.learning_rate_factor)
        require(0 < self.test_share < 1, "test_share", "a share between 0 and 1", self.test_share)
        require(self.min_interactions > self.query_size, "min_interactions",
                f"more than query_size {self.query_size}, so that a support remains", self.min_interactions)
        require(self.max_interactions is None or self.max_interactions >= self.min_interactions, "max_interactions",
                f"none or at least min_interactions {self.min_interactions}", self.max_interactions)
        require(0 <= self.hold_share <= 1, "hold_share", "a share from 0 to 1", self.hold_share)
        require(self.max_decline >= 0, "max_decline", "0 or more", self.max_decline)
        require(self.min_improvement >= 0, "min_improvement", "0 or more", self.min_improvement)
        require(0 <= self.seed < 2**31, "seed", "an integer in [0, 2^31)", self.seed)
