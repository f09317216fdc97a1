"""TFRecord files of tf.Example as columns."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa

from tfmeta.data.cleaning.chunk import Chunk, to_json
from tfmeta.errors import DataError
from tfmeta.io import filesystem

_LOOK_AT = 256  # records that tell which columns there are: an absent list means a missing value
_ARROW = {"bytes_list": pa.binary(), "float_list": pa.float32(), "int64_list": pa.int64()}


def column_names(path: str) -> list[str]:
    """Returns the columns of a file by its first records; DataError if it cannot be read."""
    return sorted(_kinds(path))


def record_chunks(path: str, *, wanted: list[str], rows: int,
                  expected: Mapping[str, str] | None = None) -> Iterator[Chunk]:
    """Yields blocks of records; at least one, so that columns are seen.

    A record that is no tf.Example, or has a list of another kind than the others, is passed on as malformed.

    Args:
      path: the file; compressed if its name ends in `.gz`.
      wanted: columns to read.
      rows: most records in a block.
      expected: kinds of the columns that the first records may lack; without it such a column is left out.

    Raises:
      DataError: if the file is damaged.
    """
    kinds = {**(expected or {}), **_kinds(path)}
    first, block = 0, []
    for record in _records(path):
        block.append(record)
        if len(block) == rows:
            yield _chunk(path, block, first, wanted, kinds)
            first, block = first + len(block), []
    if block or not first:
        yield _chunk(path, block, first, wanted, kinds)


def _records(path: str) -> Iterator[bytes]:
    import tensorflow as tf

    if not filesystem.exists(path):
        raise DataError(f"File '{path}' does not exist.")
    data = tf.data.TFRecordDataset(path, compression_type="GZIP" if path.endswith(".gz") else "")
    try:
        for batch in data.batch(4096).as_numpy_iterator():
            yield from batch.tolist()
    except tf.errors.OpError as error:
        raise DataError(f"File '{path}' cannot be read as TFRecord: {error.message.splitlines()[0]}") from None


def _kinds(path: str) -> dict[str, str]:
    """Column -> kind of its lists."""
    kinds, seen, good = {}, 0, 0
    for record in _records(path):
        features = _features(record)
        for name, feature in (features or {}).items():
            kind = feature.WhichOneof("kind")
            if kind:
                kinds.setdefault(name, kind)
        seen, good = seen + 1, good + (features is not None)
        if seen == _LOOK_AT:
            break
    if seen and not good:
        raise DataError(f"File '{path}' requires records of tf.Example, its first {seen} are none.")
    return kinds


def _features(record: bytes):
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    try:
        return example_pb2.Example.FromString(record).features.feature
    except DecodeError:
        return None


def _chunk(path: str, block: list[bytes], first: int, wanted: list[str], kinds: dict[str, str]) -> Chunk:
    import tensorflow as tf

    wanted = [name for name in wanted if name in kinds]
    types = {"bytes_list": tf.string, "float_list": tf.float32, "int64_list": tf.int64}
    spec = {name: tf.io.RaggedFeature(types[kinds[name]]) for name in wanted}
    rows, malformed = np.arange(first, first + len(block)), ()
    try:
        parsed = tf.io.parse_example(block, spec) if block else {}
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        # One of them is not like the others, and the message may quote its bytes: find out which.
        bad = np.array([_misfit(record, wanted, kinds) for record in block], bool)
        malformed = tuple((int(rows[i]), "bad_record", to_json({"bytes": block[i][:200].hex()}))
                          for i in np.flatnonzero(bad))
        block, rows = [block[i] for i in np.flatnonzero(~bad)], rows[~bad]
        parsed = tf.io.parse_example(block, spec) if block else {}
    columns = {name: _column(parsed[name], kinds[name]) if block else pa.array([], _ARROW[kinds[name]])
               for name in wanted}

    def content(position: int) -> str:
        return to_json({name: column[position].as_py() for name, column in columns.items()})

    return Chunk(path, rows, columns, content, malformed)


def _misfit(record: bytes, wanted: list[str], kinds: dict[str, str]) -> bool:
    features = _features(record)
    return features is None or any(features[n].WhichOneof("kind") not in (None, kinds[n])
                                   for n in wanted if n in features)


def _column(ragged, kind: str) -> pa.Array:
    values = pa.array(ragged.values.numpy(), _ARROW[kind])
    splits = ragged.row_splits.numpy()
    lengths = np.diff(splits)
    if (lengths <= 1).all():
        # One value a record: a plain column, missing where the list is empty.
        index = np.minimum(splits[:-1], max(0, len(values) - 1))
        return values.take(pa.array(index, mask=lengths == 0)) if len(values) else pa.nulls(len(lengths), values.type)
    if kind == "bytes_list":
        values = values.cast(pa.string())
    return pa.ListArray.from_arrays(pa.array(splits, pa.int32()), values)
