"""Rows that hold a whole list of candidates become a row per candidate."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.data.cleaning.chunk import Chunk

_PER_CANDIDATE = ("item_id", "score", "label")


def explode_lists(chunk: Chunk, columns: dict[str, str]) -> Chunk:
    """Returns a chunk of single values, with a row per candidate where the item column holds lists.

    Scores and labels are then lists of the same length, or one value for all. Rows keep their numbers. An event id of
    the file becomes `<id>/<place in the list>`. A row is malformed if it has no candidate, if its lists differ in
    length, or if it has several values where one is required; a list of one value is that value.

    Args:
      chunk: rows of a file.
      columns: event column -> column of the file.
    """
    listed = {name: column for name, column in columns.items() if _is_list(chunk.columns[column].type)}
    if not listed:
        return chunk
    lengths = {name: pc.fill_null(pc.list_value_length(chunk.columns[column]), 0).to_numpy().astype(np.int64)
               for name, column in listed.items()}
    by_candidate = [name for name in _PER_CANDIDATE if name in listed] if "item_id" in listed else []
    reason = np.full(len(chunk.rows), None, object)
    for name in by_candidate:
        reason[lengths[name] != lengths["item_id"]] = "lists_differ_in_length"
    for name in listed.keys() - set(by_candidate):
        reason[lengths[name] > 1] = f"several_values_of_{name}"
    if by_candidate:
        reason[lengths["item_id"] == 0] = "missing_item_id"
    kept = np.flatnonzero(np.equal(reason, None))
    count = lengths["item_id"][kept] if by_candidate else np.ones(len(kept), np.int64)
    parent = np.repeat(kept, count)
    arrays = {}
    for column, array in chunk.columns.items():
        name = next((n for n, c in listed.items() if c == column), None)
        if name in by_candidate:
            arrays[column] = pc.list_flatten(array.take(pa.array(kept)))
        elif name is not None:
            arrays[column] = _first(array.take(pa.array(kept))).take(pa.array(np.repeat(np.arange(len(kept)), count)))
        else:
            arrays[column] = array.take(pa.array(parent))
    if "event_id" in columns and by_candidate:
        place = np.arange(len(parent)) - np.repeat(np.cumsum(count) - count, count)
        arrays[columns["event_id"]] = pc.binary_join_element_wise(
            pc.cast(arrays[columns["event_id"]], pa.string()), pc.cast(pa.array(place), pa.string()), "/")

    def content(position: int) -> str:
        return chunk.content(int(parent[position]))

    malformed = tuple((int(chunk.rows[p]), reason[p], chunk.content(int(p)))
                      for p in np.flatnonzero(np.not_equal(reason, None)))
    return Chunk(chunk.file, chunk.rows[parent], arrays, content, (*chunk.malformed, *malformed))


def _first(array: pa.Array) -> pa.Array:
    """Returns the only value of each list, null for an empty one."""
    length = pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype(np.int64)
    flat = pc.list_flatten(array)
    return flat.take(pa.array(np.minimum(np.cumsum(length) - length, max(0, len(flat) - 1)), mask=length == 0)
                     ) if len(flat) else pa.nulls(len(array), flat.type)


def _is_list(dtype: pa.DataType) -> bool:
    return pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
