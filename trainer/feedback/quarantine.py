"""Rows that were left out."""

import pandas as pd
import pyarrow as pa

from tfmeta.data.prepared_tables import rejected_table, to_bytes
from tfmeta.io import filesystem

Rejected = tuple[str, int, str, str]  # file, 0-based data row, reason, the row as JSON


def rejected_frame(rows: list[Rejected]) -> pd.DataFrame:
    """Returns `file, row, reason, content`, in the order of the rows."""
    return pd.DataFrame(sorted(rows, key=lambda r: (r[0], r[1])), columns=["file", "row", "reason", "content"])


def write_quarantine(path: str, rows: list[Rejected]) -> None:
    """Writes the rows as Parquet, whole or not at all."""
    table: pa.Table = rejected_table(rejected_frame(rows))
    filesystem.makedirs(path.rpartition("/")[0])
    filesystem.write_bytes(path, to_bytes(table))


def first_rejected(rows: list[Rejected]) -> Rejected | None:
    """Returns the first of the rows, or None."""
    return min(rows, key=lambda r: r[1], default=None)
