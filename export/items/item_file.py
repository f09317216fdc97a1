"""A catalogue in a Parquet file."""

import io

import pandas as pd
import pyarrow as pa

from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ExportError
from tfmeta.io import filesystem


def read_items(path: str, *, feature_spec: FeatureSpec) -> pd.DataFrame:
    """Reads raw items: the id and every item feature of the specification, one row an item.

    Args:
      path: Parquet file, on any file system. The id's column is `item_id` or has the id feature's own name; lists of
        values are lists. More columns do no harm.
      feature_spec: of the model.

    Returns:
      as `PreparedData.items`: the id under `item_id`.

    Raises:
      ExportError: if the file cannot be read or lacks a column.
    """
    if not filesystem.exists(path) or filesystem.is_dir(path):
        raise ExportError(f"--items requires a Parquet file, '{path}' is none.")
    try:
        frame = pd.read_parquet(io.BytesIO(filesystem.read_bytes(path)))
    except (pa.ArrowException, ValueError) as error:
        raise ExportError(f"'{path}' requires Parquet: {str(error).splitlines()[0]}") from None
    own = feature_spec.item_id.name
    if "item_id" not in frame.columns and own in frame.columns:
        frame = frame.rename(columns={own: "item_id"})
    needed = ["item_id", *(f.name for f in feature_spec.item_features)]
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise ExportError(f"'{path}' requires the columns {', '.join(needed)} of the model's catalogue; "
                          f"'{absent[0]}' is missing among {', '.join(map(str, frame.columns))}.")
    return frame.reset_index(drop=True)
