"""Rows that hold a whole list of candidates become a row per candidate."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmeta.data.cleaning.chunk import Chunk

_PER_CANDIDATE = ("item_id", "score", "label")


def explode_lists(chunk: Chunk, columns: dict[str, str]) -> Chunk:
    """Returns a chunk with a row per candidate where the item column holds lists; else the chunk itself.

    Scores and labels are then lists of the same length, or one value for all. Rows keep their numbers. An event id of
    the file becomes `<id>/<place in the list>`. A row without a candidate, or whose lists differ in length, is
    malformed.

    Args:
      chunk: rows of a file.
      columns: event column -> column of the file.
    """
    lists = [columns[name] for name in _PER_CANDIDATE
             if name in columns and _is_list(chunk.columns[columns[name]].type)]
    if columns["item_id"] not in lists:
        return chunk
    lengths = {name: pc.fill_null(pc.list_value_length(chunk.columns[name]), 0).to_numpy().astype(np.int64)
               for name in lists}
    length = lengths[columns["item_id"]]
    good = np.all([value == length for value in lengths.values()], axis=0) & (length > 0)
    malformed = tuple((int(chunk.rows[p]), "lists_differ_in_length" if length[p] else "missing_item_id",
                       chunk.content(int(p))) for p in np.flatnonzero(~good))
    kept = np.flatnonzero(good)
    parent = np.repeat(kept, length[kept])
    index = pa.array(parent)
    arrays = {}
    for name, array in chunk.columns.items():
        # Flattening skips null lists, which have length 0 here.
        arrays[name] = pc.list_flatten(array.take(pa.array(kept))) if name in lists else array.take(index)
    if "event_id" in columns:
        name = columns["event_id"]
        place = np.arange(len(parent)) - np.repeat(np.cumsum(length[kept]) - length[kept], length[kept])
        arrays[name] = pc.binary_join_element_wise(pc.cast(arrays[name], pa.string()),
                                                   pc.cast(pa.array(place), pa.string()), "/")

    def content(position: int) -> str:
        return chunk.content(int(parent[position]))

    return Chunk(chunk.file, chunk.rows[parent], arrays, content, (*chunk.malformed, *malformed))


def _is_list(dtype: pa.DataType) -> bool:
    return pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)
