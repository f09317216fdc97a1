"""Tasks as ragged lists of interaction rows."""

import dataclasses

import numpy as np
import pyarrow as pa

from tfmeta.data.ragged import pad
from tfmeta.data.task_set import TaskSet


@dataclasses.dataclass(frozen=True)
class TaskRows:
    """`T` tasks whose support and query are rows of the raw interactions.

    Attributes:
      state: `[T]` str.
      user_row, split: `[T]` int32; `user_row` is the row of the task's own side, an item's for tasks of side item.
      support, query: `[sum of lengths]` int64 interaction rows, task after task, in stored order.
      support_length, query_length: `[T]` int64.
    """

    state: np.ndarray
    user_row: np.ndarray
    split: np.ndarray
    support: np.ndarray
    support_length: np.ndarray
    query: np.ndarray
    query_length: np.ndarray

    def __len__(self) -> int:
        return len(self.user_row)

    @classmethod
    def concatenate(cls, parts: "list[TaskRows]") -> "TaskRows":
        """Joins task lists one after the other; none gives an empty list."""
        dtypes = {"state": str, "user_row": np.int32, "split": np.int32}
        return cls(
            **{
                f.name: np.concatenate(
                    [np.zeros(0, dtypes.get(f.name, np.int64)), *(getattr(p, f.name) for p in parts)]
                )
                for f in dataclasses.fields(cls)
            }
        )

    def to_table(self, *, item_row: np.ndarray, label: np.ndarray) -> pa.Table:
        """Returns the columns of `tasks/*.parquet`, with item rows and labels of the interactions looked
        up; for tasks of side item `item_row` is to hold user rows.
        """
        columns = {
            "state": pa.array(self.state.astype(object), pa.string()),
            "user_row": pa.array(self.user_row, pa.int32()),
            "split": pa.array(self.split, pa.int32()),
        }
        for side in ("query", "support"):
            rows, length = getattr(self, side), getattr(self, f"{side}_length")
            offsets = pa.array(np.append(0, np.cumsum(length)).astype(np.int32))
            columns[f"{side}_item"] = pa.ListArray.from_arrays(offsets, pa.array(item_row[rows], pa.int32()))
            columns[f"{side}_label"] = pa.ListArray.from_arrays(offsets, pa.array(label[rows], pa.float32()))
        return pa.table(columns)

    def to_task_set(self, *, item_row: np.ndarray, label: np.ndarray) -> TaskSet:
        """Returns the tasks padded, with item rows and labels of the interactions looked up."""
        columns = {"state": self.state, "user_row": self.user_row, "split": self.split}
        for side in ("support", "query"):
            rows, length = getattr(self, side), getattr(self, f"{side}_length")
            columns[f"{side}_length"] = length.astype(np.int32)
            columns[f"{side}_item"] = pad(item_row[rows], length, fill=-1, dtype=np.int32)
            columns[f"{side}_label"] = pad(label[rows], length, fill=np.nan, dtype=np.float32)
        return TaskSet(**columns)
