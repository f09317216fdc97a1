"""Raw data from the tf.Examples of an Examples artifact."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from tfmeta.batch.record_file import column_names, record_chunks
from tfmeta.data.cleaning.assemble import assemble
from tfmeta.data.cleaning.chunk import Chunk
from tfmeta.data.cleaning.columns import check_columns, required_columns
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.errors import DataError

CHUNK_ROWS = 1 << 16
_KINDS = {"string": "bytes_list", "int64": "int64_list", "float32": "float_list"}


def read_examples(patterns: Iterable[str], *, schema: Schema, chunk_rows: int = CHUNK_ROWS) -> RawData:
    """Reads and cleans tf.Examples, a block of records at a time.

    Files in a folder `Split-users` or `Split-items` are tables of users and items; those of every other split are
    interactions, which are joined: rows of one user in several splits would leak. Where there is no such table the
    users' (items') features are in the interactions.

    Args:
      patterns: files or globs, as a Trainer is given them; on any file system.
      schema: names of the features of the Examples and what they are; its file names are not used.
      chunk_rows: records held at once.

    Raises:
      DataError: if there are no interactions, a file is damaged or lacks an id or label, or too many rows are bad.
    """
    files = _find(patterns)
    if not files["interactions"]:
        raise DataError(f"Examples with interactions are required, received {', '.join(patterns) or 'no files'}, "
                        "which has none. Name their splits in train_args.")
    sides = {kind: bool(files[kind]) for kind in ("users", "items")}

    def chunks(kind: str) -> Iterator[Chunk] | None:
        if not files[kind]:
            return None
        wanted = required_columns(schema, kind, **sides)
        return (chunk for path in files[kind] for chunk in _chunks(path, schema, kind, wanted, chunk_rows))

    return assemble(schema, interactions=chunks("interactions"), users=chunks("users"), items=chunks("items"))


def _find(patterns: Iterable[str]) -> dict[str, list[str]]:
    import tensorflow as tf

    files: dict[str, list[str]] = {"interactions": [], "users": [], "items": []}
    for path in sorted({path for pattern in patterns for path in tf.io.gfile.glob(pattern)}):
        split = path.replace("\\", "/").split("/")[-2].removeprefix("Split-")
        files[split if split in files else "interactions"].append(path)
    return files


def _chunks(path: str, schema: Schema, kind: str, wanted: Sequence[str], rows: int) -> Iterator[Chunk]:
    # What every record must have tells a wrong schema from values that are missing.
    vital = {"interactions": (schema.user_id, schema.item_id), "users": (schema.user_id,),
             "items": (schema.item_id,)}[kind]
    if kind == "interactions" and not schema.label.implicit:
        vital += (schema.label.name,)
    check_columns(path, column_names(path), vital)
    expected, lists = _expected(schema)
    try:
        for chunk in record_chunks(path, wanted=list(wanted), rows=rows, expected=expected):
            columns = {name: _as_list(column) if name in lists else column for name, column in chunk.columns.items()}
            yield dataclasses.replace(chunk, columns=columns)
    except pa.ArrowException as error:
        raise DataError(f"File '{path}' cannot be read as tf.Examples: {str(error).splitlines()[0]}") from None


def _expected(schema: Schema) -> tuple[dict[str, str], set[str]]:
    """Returns (column -> kind of its lists, columns that hold several values)."""
    features = (*schema.user_features, *schema.item_features)
    kinds = {schema.user_id: _KINDS[schema.user_id_dtype], schema.item_id: _KINDS[schema.item_id_dtype],
             schema.label.name: "float_list"}
    kinds |= {name: kind for name, kind in ((schema.timestamp, "int64_list"), (schema.title, "bytes_list")) if name}
    kinds |= {f.column: _KINDS[f.dtype] for f in features}
    return kinds, {f.column for f in features if f.kind in ("multi_categorical", "dense_vector")}


def _as_list(column: pa.Array) -> pa.Array:
    """Returns a column of lists; a block without a list longer than one comes as single values."""
    if pa.types.is_list(column.type):
        return column
    offsets = np.concatenate([[0], np.cumsum(column.is_valid().to_numpy(zero_copy_only=False))])
    values = column.drop_null()
    if pa.types.is_binary(values.type):
        values = values.cast(pa.string())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
