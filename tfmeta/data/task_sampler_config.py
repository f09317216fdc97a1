"""Settings of the task sampler."""

import dataclasses
from typing import Literal

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class TaskSamplerConfig:
    """How support and query sets are drawn from a user's interactions.

    MeLU (Lee et al., KDD 2019, section 4.1) takes users with 13 to 100 interactions, 10 of them as the query.
    These are the defaults, except that a user beyond 100 stays in with a random 100 of them, so that no user
    is lost. `over_max: drop` gives the paper's behaviour.

    Attributes:
      query_size: interactions per task in the query set.
      min_interactions: users with fewer are never a task; at least `query_size + 1`.
      max_interactions: interactions of a user that one task uses at most, query included; None for no bound.
      over_max: what becomes of users beyond `max_interactions`: `subsample` draws a new random subset in
        every epoch, `drop` leaves them out.
      support_size: None takes all that is left as the support; `[low, high]` draws a size per task uniformly,
        both ends included, and keeps that many (k-shot training; fewer where a user has fewer).
      negatives: of implicit feedback, items that the user has not met which each query gets beside its `query_size`
        positives, with label 0; drawn anew for every task, never in the support. A draw that the user has met is left
        out, so a query may have a few less. 0 for none, and for ratings.
      negative_sampling: `uniform` draws items of the training interactions alike, `popularity` in proportion to their
        number of interactions to the power of 3/4 (Mikolov et al., "Distributed Representations of Words and Phrases
        and their Compositionality", NIPS 2013, section 2.2).
      support_size_law: how `support_size` is drawn: `uniform`, or `mixed`: half of the tasks uniformly, the others
        uniformly in the logarithm of 1 + size, so that supports of a few rows are as common as large ones.
      meta_batch_size: tasks in one outer step; the last batch of an epoch may be smaller.
      task_weighting: `uniform` makes every eligible user one task an epoch, `sqrt` draws as many tasks with
        replacement, in proportion to the square root of a user's number of interactions.
      max_rows_in_memory: interactions that are held in memory, 8 bytes each; data with more are read from disk
        window by window, see `StreamingTaskSampler`. None holds all, whatever their number.
    """

    query_size: int = 10
    min_interactions: int = 13
    max_interactions: int | None = 100
    over_max: Literal["subsample", "drop"] = "subsample"
    support_size: tuple[int, int] | None = None
    negatives: int = 0
    negative_sampling: Literal["uniform", "popularity"] = "uniform"
    support_size_law: Literal["uniform", "mixed"] = "uniform"
    meta_batch_size: int = 32
    task_weighting: Literal["uniform", "sqrt"] = "uniform"
    max_rows_in_memory: int | None = 50_000_000

    def __post_init__(self):
        require(self.query_size >= 1, "query_size", "at least 1", self.query_size)
        require(self.min_interactions > self.query_size, "min_interactions",
                f"more than query_size ({self.query_size}), so that a support is left", self.min_interactions)
        require(self.max_interactions is None or self.max_interactions >= self.min_interactions,
                "max_interactions", f"none or at least min_interactions ({self.min_interactions})",
                self.max_interactions)
        require(self.support_size is None or 0 <= self.support_size[0] <= self.support_size[1],
                "support_size", "none or [low, high] with 0 <= low <= high", self.support_size)
        most = None if self.max_interactions is None else self.max_interactions - self.query_size
        require(self.support_size is None or most is None or self.support_size[0] <= most, "support_size",
                f"a smallest size of at most {most}, what max_interactions ({self.max_interactions}) leaves beside "
                f"query_size ({self.query_size})", self.support_size)
        require(self.negatives >= 0, "negatives", "0 or more", self.negatives)
        require(self.support_size_law == "uniform" or self.support_size is not None, "support_size_law",
                "uniform where no support_size is given", self.support_size_law)
        require(self.meta_batch_size >= 1, "meta_batch_size", "at least 1", self.meta_batch_size)
        require(self.max_rows_in_memory is None or self.max_rows_in_memory >= 1, "max_rows_in_memory",
                "at least 1, or none", self.max_rows_in_memory)

    @property
    def support_width(self) -> int | None:
        """The most support rows that a task can have; None without a bound."""
        bounds = [self.support_size[1]] if self.support_size else []
        bounds += [self.max_interactions - self.query_size] if self.max_interactions else []
        return max(min(bounds), 1) if bounds else None
