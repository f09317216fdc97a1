"""Look-up of events by id in the parts of the log."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfmeta.data.readers.files import open_binary
from tfmeta.errors import DataError
from trainer.feedback.event_schema import EVENT_SCHEMA


def stored_events(paths: list[str], ids: pa.Array) -> pa.Table:
    """Returns the events (`EVENT_SCHEMA`) of some parts that have one of the ids.

    Of most row groups only the ids are read, and not even those where the ids cannot be in them: ids that grow with
    time (UUIDv7, ULID, counters of fixed width) are found without reading the whole log.

    Args:
      paths: Parquet files.
      ids: event ids.

    Raises:
      DataError: if a part cannot be read.
    """
    found = [EVENT_SCHEMA.empty_table()]
    bounds = pc.min_max(ids).as_py()
    for path in paths if len(ids) else ():
        try:
            with open_binary(path) as (stream, _), pq.ParquetFile(stream) as file:
                for group in range(file.num_row_groups):
                    if not _may_hold(file.metadata.row_group(group), bounds):
                        continue
                    stored = file.read_row_group(group, columns=["event_id"])["event_id"]
                    mask = pc.is_in(stored, value_set=ids)
                    if pc.any(mask).as_py():
                        found.append(file.read_row_group(group).select(EVENT_SCHEMA.names).filter(mask))
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, error) from None
    return pa.concat_tables(found)


def damaged(path: str, error: Exception) -> DataError:
    """Returns the error of a part that cannot be read."""
    return DataError(f"Part '{path}' of the event log is damaged: {' '.join(str(error).split())}. Restore it, or "
                     "remove the folder of that day to drop it.")


def _may_hold(group: pq.RowGroupMetaData, bounds: dict) -> bool:
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == "event_id":
            statistics = column.statistics
            if statistics is None or not statistics.has_min_max:
                return True
            return bounds["min"] <= statistics.max and statistics.min <= bounds["max"]
    return True
