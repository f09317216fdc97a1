"""BigQuery as input and output, through Beam's own connector."""

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.readers.files import open_binary
from tfmeta.errors import ConfigError

_TYPES = {pa.string(): "STRING", pa.int64(): "INTEGER", pa.int32(): "INTEGER", pa.float32(): "FLOAT",
          pa.timestamp("us", tz="UTC"): "TIMESTAMP"}


def read_table(table: str) -> beam.PTransform:
    """Returns a transform that reads a table `project.dataset.table` as mappings of column to value."""
    bigquery = _connector()
    return bigquery.ReadFromBigQuery(table=connector_name(table), method=bigquery.ReadFromBigQuery.Method.EXPORT)


def write_table(table: str, schema: pa.Schema) -> beam.PTransform:
    """Returns a transform that replaces a table with the mappings it is given, so a re-run doubles nothing."""
    bigquery = _connector()
    return bigquery.WriteToBigQuery(
        table=connector_name(table), schema=table_schema(schema), method=bigquery.WriteToBigQuery.Method.FILE_LOADS,
        create_disposition=bigquery.BigQueryDisposition.CREATE_IF_NEEDED,
        write_disposition=bigquery.BigQueryDisposition.WRITE_TRUNCATE)


def connector_name(table: str) -> str:
    """`project.dataset.table` as the connector spells it; ConfigError for other forms."""
    parts = table.split(".")
    if len(parts) != 3 or not all(parts):
        raise ConfigError(f"A BigQuery table requires the form bq://project.dataset.table, received 'bq://{table}'.")
    return f"{parts[0]}:{parts[1]}.{parts[2]}"


def table_schema(schema: pa.Schema) -> dict:
    """Returns the columns of a table as BigQuery describes them."""
    fields = []
    for field in schema:
        nested = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
        fields.append({"name": field.name.replace("-", "_"), "mode": "REPEATED" if nested else "NULLABLE",
                       "type": _TYPES[field.type.value_type if nested else field.type]})
    return {"fields": fields}


class PartRows(beam.DoFn):
    """Yields the rows of a finished part as mappings."""

    def process(self, record: dict):
        with open_binary(record["path"]) as (stream, _), pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(batch_size=1 << 14):
                for row in batch.to_pylist():
                    yield {name.replace("-", "_"): value for name, value in row.items()}


def _connector():
    from apache_beam.io.gcp import bigquery

    try:
        import google.cloud.bigquery  # noqa: F401
        from apitools.base.py import exceptions  # noqa: F401
    except ImportError:
        raise ConfigError("BigQuery requires Beam's connector. Install it with: pip install 'tfmeta[gcp]'") from None
    return bigquery
