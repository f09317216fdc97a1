"""The split of a data set: partitions, training rows and tasks."""

import dataclasses

import numpy as np

from tfmeta.data.split_config import SplitConfig
from tfmeta.data.splits.task_rows import TaskRows

PARTITIONS = ("warm", "validation", "cold")
WARM, VALIDATION, COLD = range(3)


@dataclasses.dataclass(frozen=True)
class Split:
    """What every user, item and interaction is used for. No label takes part in making it.

    With W, V, C for warm, validation and cold (users x items): training is WxW less the withheld rows; test
    states are user-cold = Cx(W or V), item-cold = (W or V)xC, both-cold = CxC, and warm = withheld rows of
    users not in V. Test cells depend on the cold sets alone, so the test is the same with and without
    validation. Validation twins: user-cold = VxW, item-cold = WxV, both-cold = VxV, less the withheld rows. All that
    holds whatever the tasks' side is.

    Attributes:
      user_partition, item_partition: `[U]`, `[I]` int8, index into `PARTITIONS`. A user or item that has no
        interaction at all is cold.
      train: `[N]` bool, interactions that training may see.
      withheld: `[N]` bool, query ratings of the warm state.
      validation, test: the tasks.
    """

    user_partition: np.ndarray
    item_partition: np.ndarray
    train: np.ndarray
    withheld: np.ndarray
    validation: TaskRows
    test: TaskRows

    def row_counts(self, *, user_row: np.ndarray, item_row: np.ndarray, config: SplitConfig) -> dict:
        """Counts every interaction exactly once by its use.

        Args:
          user_row, item_row: `[N]` rows of the interactions.
          config: what the split was made with, for the reasons.

        Returns:
          `{"train", "test": {state: n}, "validation": {state: n}, "unused": {reason: n}, "cells"}`; the
          warm state counts its query rows, its support rows are training rows. `cells` is the 3 x 3 table
          of partitions.
        """
        users, items = self.user_partition[user_row], self.item_partition[item_row]
        cells = {
            f"{u} users": {
                f"{i} items": int(((users == a) & (items == b)).sum()) for b, i in enumerate(PARTITIONS)
            }
            for a, u in enumerate(PARTITIONS)
        }
        counts: dict = {
            "train": int(self.train.sum()),
            "test": {},
            "validation": {},
            "unused": {},
            "cells": cells,
        }
        side = config.task_side
        bounds = f"{config.min_interactions} to {config.max_interactions or 'any number of'} interactions"
        reasons = dict.fromkeys(("test", "validation"), f"{side} without {bounds} there")
        if config.tasks is not None and side == "user":
            reasons["test"] = "not in the tasks file"
        asked = np.zeros(len(user_row), bool)
        asked[self.test.query] = True
        counts["test"]["warm"] = int((self.withheld & asked).sum())
        if missed := int((self.withheld & ~asked).sum()):
            counts["unused"][f"test warm: {side} without {config.query_size} such rows"] = missed
        for part, masks in (
            ("test", test_cells(users, items)),
            ("validation", validation_cells(users, items, self.withheld)),
        ):
            tasks = getattr(self, part)
            used = np.zeros(len(user_row), bool)
            used[tasks.query] = True
            used[tasks.support] = True
            for state, mask in masks.items():
                counts[part][state] = int((mask & used).sum())
                if missed := int((mask & ~used).sum()):
                    counts["unused"][f"{part} {state}: {reasons[part]}"] = missed
        return counts


def test_cells(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `[N]` masks of the cold test states for the partitions of each interaction's user and item."""
    user, item = users == COLD, items == COLD
    return {"user_cold": user & ~item, "item_cold": ~user & item, "both_cold": user & item}


def validation_cells(users: np.ndarray, items: np.ndarray, withheld: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `[N]` masks of the validation twins of the cold states."""
    user, item, seen = users == VALIDATION, items == VALIDATION, ~withheld
    return {
        "user_cold": user & (items == WARM) & seen,
        "item_cold": (users == WARM) & item & seen,
        "both_cold": user & item & seen,
    }


test_cells.__test__ = False  # Not a pytest function, whatever its name.
