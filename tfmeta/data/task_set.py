"""Explicit evaluation tasks: who is asked about which items, given which support."""

import dataclasses
from collections.abc import Iterator

import numpy as np

STATES = ("warm", "user_cold", "item_cold", "both_cold")


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """`T` fixed tasks, padded. Rows refer to `PreparedData.users` and `PreparedData.items`.

    Attributes:
      state: `[T]` str, one of `STATES`.
      user_row: `[T]` int32.
      split: `[T]` int32, which of the repeated draws of support and query this is.
      support_item, query_item: `[T, S]`, `[T, Q]` int32 item rows; padding is -1.
      support_label, query_label: `[T, S]`, `[T, Q]` float32 in the label's own unit; padding is NaN.
      support_length, query_length: `[T]` int32.
    """

    state: np.ndarray
    user_row: np.ndarray
    split: np.ndarray
    support_item: np.ndarray
    support_label: np.ndarray
    support_length: np.ndarray
    query_item: np.ndarray
    query_label: np.ndarray
    query_length: np.ndarray

    def __len__(self) -> int:
        return len(self.user_row)

    @property
    def states(self) -> tuple[str, ...]:
        """The states that occur, in the order of `STATES`."""
        return tuple(s for s in STATES if (self.state == s).any())

    def select(self, index: np.ndarray) -> "TaskSet":
        """Returns the tasks at a boolean or integer index `[T]`, padding trimmed to the longest of them."""
        chosen = {f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)}
        for side in ("support", "query"):
            width = max(1, int(chosen[f"{side}_length"].max(initial=0)))
            for part in ("item", "label"):
                chosen[f"{side}_{part}"] = chosen[f"{side}_{part}"][:, :width]
        return TaskSet(**chosen)

    def in_state(self, state: str) -> "TaskSet":
        """Returns the tasks of one state."""
        return self.select(self.state == state)

    def truncate(self, k: int | None) -> "TaskSet":
        """Keeps the first min(k, n) support rows of every task: nested over k. None keeps all."""
        if k is None:
            return self
        length = np.minimum(self.support_length, k).astype(np.int32)
        width = max(1, int(length.max(initial=0)))
        keep = np.arange(width)[None, :] < length[:, None]
        return dataclasses.replace(
            self,
            support_item=np.where(keep, self.support_item[:, :width], -1).astype(np.int32),
            support_label=np.where(keep, self.support_label[:, :width], np.nan).astype(np.float32),
            support_length=length)

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, "TaskSet"]]:
        """Yields (index into this set, tasks), longest supports together so that little is padded."""
        order = np.argsort(self.support_length, kind="stable")
        for start in range(0, len(order), size):
            index = order[start:start + size]
            yield index, self.select(index)
