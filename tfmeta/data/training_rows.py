"""Training interactions on disk, read piece by piece."""

import contextlib
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.interactions import Interactions
from tfmeta.errors import DataError
from tfmeta.io import filesystem


class TrainingRows:
    """The rows of a `train.parquet` whose memory is bounded by one row group and, per user, two numbers.

    Rows are sorted by user. Row groups as `tfmeta data prepare` writes them hold whole users; others are read
    too, at the price of some being read twice.

    Args:
      path: the file, on any file system.

    Attributes:
      num_rows: N, known from the file's footer.
      group_start: `[G + 1]` int64, first row of each row group, and N.

    Raises:
      DataError: if the file is absent or no Parquet.
    """

    def __init__(self, path: str):
        self.path = path
        with self._open() as file:
            metadata = file.metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self.group_start = np.append(0, np.cumsum(sizes)).astype(np.int64)
        self.num_rows = int(self.group_start[-1])

    def user_offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (`users [U]` int32 that have rows, `offsets [U + 1]` int64 of their rows); reads one column.

        Raises:
          DataError: if the rows are not sorted by user.
        """
        users, starts, last = [], [], None
        with self._open() as file:
            for group, first in enumerate(self.group_start[:-1]):
                user = _column(file.read_row_group(group, columns=["user_row"], use_threads=False), "user_row",
                               np.int32)
                before = np.append(user[:1] - 1 if last is None else last, user[:-1]).astype(np.int32)
                if (user < before).any():
                    at = int(first + np.flatnonzero(user < before)[0])
                    raise DataError(f"'{self.path}' requires rows sorted by user, received user {user[at - first]} "
                                    f"after user {before[at - first]} in row {at}. Prepare the data again.")
                new = np.flatnonzero(user != before)
                users.append(user[new])
                starts.append(new + first)
                last = user[-1:] if len(user) else last
        users = np.concatenate([*users, np.zeros(0, np.int32)]).astype(np.int32)
        return users, np.concatenate([*starts, [self.num_rows]]).astype(np.int64)

    def item_counts(self) -> np.ndarray:
        """Returns the number of interactions of each item row `[I]`, up to the last one that has some."""
        counts = np.zeros(0, np.int64)
        with self._open() as file:
            for group in range(len(self.group_start) - 1):
                own = np.bincount(_column(file.read_row_group(group, columns=["item_row"], use_threads=False),
                                          "item_row", np.int32))
                total = np.zeros(max(len(counts), len(own)), np.int64)
                total[:len(counts)] += counts
                total[:len(own)] += own
                counts = total
        return counts

    def of_users(self, users: np.ndarray) -> Interactions:
        """Returns the rows of some users, without their times; reads one column of all rows and those of the users."""
        known, offsets = self.user_offsets()
        place = np.flatnonzero(np.isin(known, users))
        columns = [(np.zeros(0, np.int32), np.zeros(0, np.float32))]
        with self.reader() as reader:
            columns += [reader.read(offsets[i], offsets[i + 1]) for i in place]
        item, label = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        user = np.repeat(known[place], np.diff(offsets)[place])
        return Interactions(user_row=user, item_row=item, label=label, time=np.zeros(len(item), np.int64))

    def read_all(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (`item_row [N]` int32, `label [N]` float32), and takes no more memory than these."""
        item, label = np.empty(self.num_rows, np.int32), np.empty(self.num_rows, np.float32)
        with self.reader() as reader:
            for start, stop in itertools.pairwise(self.group_start):
                item[start:stop], label[start:stop] = reader.read(start, stop)
        return item, label

    def distinct_labels(self, *, limit: int = 200) -> np.ndarray:
        """Returns the labels that occur, ascending float32; once there are more than `limit`, only some of them."""
        found = np.zeros(0, np.float32)
        with self._open() as file:
            for group in range(len(self.group_start) - 1):
                table = file.read_row_group(group, columns=["label"], use_threads=False)
                found = np.union1d(found, _column(table, "label", np.float32))
                if len(found) > limit:
                    break
        return found

    def label_summary(self) -> tuple[float, float, float] | None:
        """Returns the smallest label, the largest and the share of positive ones, or None without rows."""
        low, high, positive = np.inf, -np.inf, 0
        with self._open() as file:
            for group in range(len(self.group_start) - 1):
                label = _column(file.read_row_group(group, columns=["label"], use_threads=False), "label", np.float32)
                low, high = min(low, label.min(initial=np.inf)), max(high, label.max(initial=-np.inf))
                positive += int((label > 0).sum())
        return None if high < low else (float(low), float(high), positive / self.num_rows)

    @contextlib.contextmanager
    def reader(self) -> Iterator["_Reader"]:
        """Yields an object whose `read(start, stop)` returns (`item_row` int32, `label` float32) of these rows."""
        with self._open() as file:
            yield _Reader(file, self.group_start)

    @contextlib.contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with filesystem.open_file(self.path, "rb") as handle:
            source = _Source(handle) if filesystem.is_remote(self.path) else handle
            try:
                file = pq.ParquetFile(source)
            except pa.ArrowInvalid as error:
                raise DataError(f"'{self.path}' requires a Parquet file: {error}") from None
            yield file


class _Reader:
    """Reads ranges of rows; keeps the last row group, in which the next range often begins."""

    def __init__(self, file: pq.ParquetFile, group_start: np.ndarray):
        self._file, self._start = file, group_start
        self._group, self._rows = -1, None

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        if start >= stop:
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        first, last = np.searchsorted(self._start, [start, stop - 1], side="right") - 1
        parts = []
        for group in range(first, last + 1):
            begin, end = self._start[group], self._start[group + 1]
            rows = self._load(group)
            parts.append([column[max(0, start - begin):min(end, stop) - begin] for column in rows])
        if len(parts) == 1:
            return tuple(parts[0])
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))

    def _load(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        if group != self._group:
            self._rows = None  # before the next one is there: never two at a time
            table = self._file.read_row_group(group, columns=["item_row", "label"], use_threads=False)
            self._rows = _column(table, "item_row", np.int32), _column(table, "label", np.float32)
            self._group = group
        return self._rows


class _Source:
    """A `GFile` with what pyarrow asks of a file."""

    def __init__(self, handle):
        self._handle, self.closed = handle, False
        self.read, self.seek, self.tell = handle.read, handle.seek, handle.tell

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def _column(table: pa.Table, name: str, dtype) -> np.ndarray:
    return table[name].to_numpy().astype(dtype, copy=False)
