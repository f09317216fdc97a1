"""How interactions become training rows and evaluation tasks."""

import dataclasses
from typing import Literal

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """Settings of a split. Defaults follow the MeLU protocol (Lee et al., KDD 2019, section 4.1).

    Attributes:
      task_side: what a task is. `user`: support and query are a user's interactions. `item`: an item's, for warming
        up new items. Partitions, withheld rows and training rows are those of the same settings with side `user`;
        the tasks alone are drawn anew, in the same states, which keep their names (`item_cold` asks which warm users
        like a cold item). All other settings name users and items as they are; those that bound a task
        (`query_size`, `min_interactions`, `max_interactions`) then bound an item's.
      mode: `random` draws cold users and items; `temporal` takes the users who arrive last and the items that
        appear last, and asks about every user's latest interactions; `explicit` reads them from files.
      cold_user_share, cold_item_share: share of users and items that only test tasks may see.
      validation_user_share, validation_item_share: share of the users and items that are not cold, held out
        as pseudo-cold for every choice; 0 in both trains on everything that is not cold ("refit").
      warm_test_user_share: share of the users that are not cold whose `query_size` ratings are withheld
        from all training, for the warm state.
      seed: of every draw. The same seed gives the same split in every process, whatever the order of the
      rows.
      last_out: ask every user about their last `query_size` interactions in time, with all earlier ones as the support,
        oldest first, whatever the mode; `temporal` does so in any case.
      num_splits: repeated draws of support and query per test task; None means 10, and 1 for `temporal` and `last_out`.
      validation_num_splits: the same for validation tasks; None means 2, and 1 for `temporal`.
      query_size: query rows per task.
      min_interactions: a user (item, for tasks of side item) with fewer interactions in a state gets no task in it.
      max_interactions: one with more gets none either, in the cold states; None is no bound. The warm
        state has no upper bound, because the history of its users is trained on in any case.
      cold_users, cold_items: files (Parquet or CSV) with the cold ids of an `explicit` split; None takes the
        partition that the data set was published with, where it has one.
      validation: file with columns `kind` (user | item) and `id`; replaces the validation shares.
      tasks: file with columns `state, user_id, split, items`: exactly these become the test tasks; the first
        `query_size` items are the query, the rest the support in its order. Their cold users and items come
        from `cold_users` and `cold_items`. With task side `item` only their warm queries matter: they are withheld
        from training as ever, while the item tasks are drawn.
    """

    task_side: Literal["user", "item"] = "user"
    mode: Literal["random", "temporal", "explicit"] = "random"
    cold_user_share: float = 0.2
    cold_item_share: float = 0.2
    validation_user_share: float = 0.1
    validation_item_share: float = 0.1
    warm_test_user_share: float = 0.1
    seed: int = 0
    last_out: bool = False
    num_splits: int | None = None
    validation_num_splits: int | None = None
    query_size: int = 10
    min_interactions: int = 13
    max_interactions: int | None = 100
    cold_users: str | None = None
    cold_items: str | None = None
    validation: str | None = None
    tasks: str | None = None

    def __post_init__(self):
        for side in ("cold_user", "cold_item", "validation_user", "validation_item", "warm_test_user"):
            share = getattr(self, f"{side}_share")
            require(0 <= share < 1, f"{side}_share", "a share in [0, 1)", share)
        require(self.seed >= 0, "seed", "a whole number of at least 0", self.seed)
        require(self.query_size >= 1, "query_size", "at least 1", self.query_size)
        require(
            self.min_interactions > self.query_size,
            "min_interactions",
            f"more than query_size {self.query_size}, so that a support remains",
            self.min_interactions,
        )
        require(
            self.max_interactions is None or self.max_interactions >= self.min_interactions,
            "max_interactions",
            f"null or at least min_interactions {self.min_interactions}",
            self.max_interactions,
        )
        for name in ("num_splits", "validation_num_splits"):
            value = getattr(self, name)
            if self.in_time:
                require(value in (None, 1), name, "1 with mode temporal or last_out, where nothing is drawn", value)
            else:
                require(value is None or value >= 1, name, "null or at least 1", value)
        for name in ("cold_users", "cold_items", "tasks"):
            value = getattr(self, name)
            require(value is None or self.mode == "explicit", name, "mode explicit", self.mode)
        require(
            (self.cold_users is None) == (self.cold_items is None),
            "cold_items",
            "both cold_users and cold_items, or neither",
            (self.cold_users, self.cold_items),
        )

    @property
    def splits(self) -> int:
        """Draws of support and query per test task."""
        return self.num_splits or (1 if self.in_time else 10)

    @property
    def validation_splits(self) -> int:
        """Draws of support and query per validation task."""
        return self.validation_num_splits or (1 if self.in_time else 2)

    @property
    def in_time(self) -> bool:
        """Whether support and query are in the order of time instead of drawn."""
        return self.mode == "temporal" or self.last_out

    def without_validation(self) -> "SplitConfig":
        """Returns the refit twin: the same test tasks, and training on everything else that is not cold."""
        return dataclasses.replace(
            self, validation_user_share=0.0, validation_item_share=0.0, validation=None
        )
