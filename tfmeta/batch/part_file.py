"""One part of the output on its way to a file."""

import contextlib
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq


class PartFile:
    """Writes tables of rows as Parquet, or as TFRecord of flat tf.Example.

    Args:
      path: a local file.
      schema: of the rows.
      kind: `parquet` or `tfrecord`.

    Attributes:
      rows: written so far.
    """

    def __init__(self, path: str, schema: pa.Schema, *, kind: str):
        self.rows, self._schema = 0, schema
        if kind == "tfrecord":
            import tensorflow as tf

            self._writer = tf.io.TFRecordWriter(path)
            self.write = self._write_records
        else:
            # Scores hardly repeat: a dictionary of them costs time and saves nothing.
            plain = [f.name for f in schema if _kind(f.type) != "float_list" and not pa.types.is_nested(f.type)]
            self._writer = pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=plain)
            self.write = self._write_table

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str, schema: pa.Schema, *, kind: str) -> Iterator["PartFile"]:
        """Yields a file that is closed at the end."""
        part = cls(path, schema, kind=kind)
        try:
            yield part
        finally:
            part._writer.close()

    def _write_table(self, table: pa.Table) -> None:
        self._writer.write_table(table)
        self.rows += table.num_rows

    def _write_records(self, table: pa.Table) -> None:
        from tensorflow.core.example import example_pb2

        columns = []
        for field in self._schema:
            column = table[field.name]
            if pa.types.is_timestamp(field.type):
                column = column.cast(pa.int64())
            columns.append((field.name, _kind(field.type), column.to_pylist()))
        for row in range(table.num_rows):
            example = example_pb2.Example()
            for name, kind, values in columns:
                value = values[row]
                value = value if isinstance(value, list) else [value]
                into = getattr(example.features.feature[name], kind).value
                into.extend([v.encode() for v in value] if kind == "bytes_list" else value)
            self._writer.write(example.SerializeToString(deterministic=True))
        self.rows += table.num_rows


def _kind(dtype: pa.DataType) -> str:
    if pa.types.is_list(dtype) or pa.types.is_fixed_size_list(dtype):
        dtype = dtype.value_type
    if pa.types.is_string(dtype):
        return "bytes_list"
    return "float_list" if pa.types.is_floating(dtype) else "int64_list"
