"""A part of the input that one worker reads."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class InputSplit:
    """A file, or some row groups of a Parquet file.

    Attributes:
      kind: `interactions`, `candidates` or `users`.
      path: the file.
      format: `parquet`, `csv` or `tfrecord`.
      columns: what is needed (`user`, `item`, `label`, `time`, or the name of a user feature behind `feature:`) -> the
        file's column.
      file: number of the file among those of its kind; with the row in the file, it orders rows without a time.
      groups: first row group and the one after the last; None for the whole file.
      first_row: row of the file that the split begins with.
      rows: rows expected, or None if only reading tells.
      key: name of what is kept of it, the same only for the same content of the same file.
    """

    kind: str
    path: str
    format: str
    columns: tuple[tuple[str, str], ...]
    file: int
    key: str
    groups: tuple[int, int] | None = None
    first_row: int = 0
    rows: int | None = None
