"""Items as signature inputs: by id, or with their features."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfmeta.batch.input_plan import file_format, find_files
from tfmeta.batch.latest_rows import codes_of
from tfmeta.data.cleaning.columns import check_columns
from tfmeta.data.raw_columns import raw_columns
from tfmeta.data.readers.files import open_binary
from tfmeta.errors import ConfigError, DataError
from tfmeta.serving.client.model_description import ModelDescription
from tfmeta.serving.client.raw_values import missing_array


class ItemTable:
    """Turns ids into the values of item inputs.

    Args:
      description: of the model.
      files: Parquet files with a row an item, where the model takes features with every item.

    Raises:
      DataError: if a file lacks a column.
      ConfigError: if the model takes features and there are no files.
    """

    def __init__(self, description: ModelDescription, files: tuple[str, ...] = ()):
        self._id = description.feature_spec.item_id
        self._features = () if description.by_id else description.feature_spec.item_features
        if not self._features:
            return
        if not files:
            raise ConfigError("This model was exported without a catalogue: it requires --items, Parquet files with "
                              f"the columns {', '.join(f.name for f in description.item_features)}.")
        frame = pd.concat([_read(path, [f.name for f in self._features], self._id.name)
                           for path in find_files(files)], ignore_index=True)
        frame = frame.drop_duplicates(self._id.name, keep="last")
        self._ids = pa.array(frame[self._id.name], pa.int64() if self._id.dtype == "int64" else pa.string(),
                             from_pandas=True)
        columns = raw_columns(frame, self._features)
        self._columns = {f.name: np.concatenate([columns[f.name], missing_array(f, 1)]) for f in self._features}

    def encode(self, ids: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns (codes `[n]`, feature name -> values `[D + 1, ...]` by code; code D is padding)."""
        codes, distinct = codes_of(ids)
        values = distinct.to_numpy(zero_copy_only=False)
        tables = {self._id.name: np.concatenate([values, missing_array(self._id, 1)])}
        if self._features:
            import pyarrow.compute as pc

            found = pc.fill_null(pc.index_in(distinct, value_set=self._ids), len(self._ids))
            rows = np.append(found.to_numpy(zero_copy_only=False), len(self._ids))
            tables |= {name: column[rows] for name, column in self._columns.items()}
        return codes, tables


def _read(path: str, features: list[str], item_id: str) -> pd.DataFrame:
    if file_format(path) != "parquet":
        raise ConfigError(f"Items require Parquet files, received '{path}'.")
    try:
        with open_binary(path) as (stream, _):
            table = pq.read_table(stream)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"File '{path}' cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    if item_id not in table.column_names and "item_id" in table.column_names:
        table = table.rename_columns([item_id if n == "item_id" else n for n in table.column_names])
    check_columns(path, table.column_names, [item_id, *features])
    return table.select([item_id, *features]).to_pandas()
