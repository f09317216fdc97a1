"""Training interactions in columns."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interactions:
    """`N` interactions sorted by user row, then time, then original order.

    Attributes:
      user_row, item_row: `[N]` int32, rows of `PreparedData.users` and `PreparedData.items`.
      label: `[N]` float32 in the label's own unit.
      time: `[N]` int64, unix seconds or any order-preserving number; 0 where the data has none.
    """

    user_row: np.ndarray
    item_row: np.ndarray
    label: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.user_row)

    def user_offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (`users [U]` int32 that have interactions, `offsets [U + 1]` int64 of their rows)."""
        users, start = np.unique(self.user_row, return_index=True)
        return users.astype(np.int32), np.append(start, len(self)).astype(np.int64)
