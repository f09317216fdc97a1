"""The last interactions of every user, in bounded memory."""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Rows beyond those kept before the older ones are thrown away.
_SLACK_ROWS = 1 << 18


class LatestRows(beam.CombineFn):
    """Combines tables of interactions into one with the last `bound` rows of every user.

    The last ones are those with the highest time, among equal times those that come later in the input
    (`position`). An accumulator holds at most `bound` rows a user and a constant number more, however many a user has;
    the result does not depend on how the rows were cut into tables, or on their order.

    Args:
      bound: rows kept of a user.
      schema: of the tables: `user`, `time` and `position` among others.
    """

    def __init__(self, bound: int, schema: pa.Schema):
        self._bound, self._schema = bound, schema

    def create_accumulator(self) -> tuple[list[pa.Table], int, int]:
        """Tables, their rows, and the rows there were after the last tidying."""
        return [], 0, 0

    def add_input(self, accumulator, table: pa.Table):
        tables, rows, kept = accumulator
        tables, rows = [*tables, table], rows + table.num_rows
        if rows > 2 * kept + _SLACK_ROWS:
            compact = keep_latest(pa.concat_tables(tables), self._bound)
            return [compact], compact.num_rows, compact.num_rows
        return tables, rows, kept

    def merge_accumulators(self, accumulators):
        merged = self.create_accumulator()
        for tables, _, _ in accumulators:
            for table in tables:
                merged = self.add_input(merged, table)
        return merged

    def extract_output(self, accumulator) -> pa.Table:
        """Returns the rows, those of a user together and oldest first."""
        tables = accumulator[0] or [self._schema.empty_table()]
        return sort_rows(keep_latest(pa.concat_tables(tables), self._bound))


def keep_latest(table: pa.Table, bound: int) -> pa.Table:
    """Returns the last `bound` rows of every user, in the table's order."""
    users = codes_of(table["user"])[0]
    counts = np.bincount(users, minlength=1)
    if not len(users) or counts.max() <= bound:
        return table
    order = _order(users, table)
    ends = np.cumsum(counts)
    keep = np.zeros(len(users), bool)
    keep[order] = ends[users[order]] - np.arange(len(users)) <= bound
    return table.filter(pa.array(keep))


def sort_rows(table: pa.Table) -> pa.Table:
    """Returns the rows by user, time and position; users come in the order of their first row."""
    users = codes_of(table["user"])[0]
    order = _order(users, table)
    return table.combine_chunks().take(pa.array(order))


def _order(users: np.ndarray, table: pa.Table) -> np.ndarray:
    """Rows by code of the user, time and position, as `np.lexsort` would have them, mostly in one sort."""
    time, position = table["time"].to_numpy(), table["position"].to_numpy()
    if not len(users):
        return np.zeros(0, np.int64)
    first, span = int(time.min()), int(time.max()) - int(time.min()) + 1
    if span * (int(users.max()) + 1) >= 1 << 62:
        return np.lexsort((position, time, users))
    key = users * span + (time - first)
    if (position[1:] > position[:-1]).all():
        return np.argsort(key, kind="stable")
    before = np.argsort(position, kind="stable")
    return before[np.argsort(key[before], kind="stable")]


def codes_of(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Returns (code of each value `[n]`, the distinct values in the order of their first occurrence)."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = pc.dictionary_encode(column)
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary
