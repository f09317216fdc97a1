"""Titles of the catalogue's items, for people who look at a model."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.raw_columns import raw_array
from tfmeta.io import filesystem
from tfmeta.serving.page.item_titles import FILE as FILE


def write_titles(path: str, items: pd.DataFrame, *, feature_spec: FeatureSpec) -> bool:
    """Writes a Parquet file with the columns `item_id` (raw ids) and `title`, where the catalogue has titles.

    Args:
      path: of the file.
      items: the raw catalogue, with `item_id` and the column that the specification calls the title.
      feature_spec: of the model.

    Returns:
      whether there was something to write.
    """
    if feature_spec.title is None or feature_spec.title not in items.columns:
        return False
    titles = [None if pd.isna(value) or value == "" else str(value) for value in items[feature_spec.title].tolist()]
    ids = raw_array(items["item_id"], feature_spec.item_id)
    table = pa.table({"item_id": pa.array(ids.tolist(), pa.string() if feature_spec.item_id.dtype == "string"
                                          else pa.int64()), "title": pa.array(titles, pa.string())})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    filesystem.write_bytes(path, sink.getvalue())
    return True
