"""Items that the graph knows by id."""

import numpy as np
import pandas as pd
import tensorflow as tf

from export.items.item_source import ItemSource
from tfmeta.data.feature_tables import transform_items
from tfmeta.data.raw_columns import raw_array
from tfmeta.errors import ExportError
from tfmeta.models.recommender import Recommender

# Ids live in the graph definition, a protocol buffer of at most 2 GiB.
MAX_ID_BYTES = 1 << 30


class CatalogueItems(ItemSource):
    """Looks up item representations that were encoded at export, so that a request carries ids only.

    Args:
      recommender: its item encoder is used.
      items: the raw catalogue, one row an item, with the column `item_id` and the item features.
      batch_size: items encoded at a time.

    Attributes:
      ids: raw ids `[I]`, in the catalogue's order.

    Raises:
      ExportError: if the catalogue is empty, or an id is missing or occurs twice.
    """

    mode = "catalogue"

    def __init__(self, recommender: Recommender, items: pd.DataFrame, *, batch_size: int = 4096):
        super().__init__(name="catalogue_items")
        spec = recommender.feature_spec
        self.features = (spec.item_id,)
        ids = catalogue_ids(recommender, items)
        transformed = transform_items(spec, items)
        encoded = [recommender.encode_item({k: v[start:start + batch_size] for k, v in transformed.items()})
                   for start in range(0, len(ids) + 1, batch_size)]
        # Rows 0..I-1 are the catalogue, row I is the content-free item.
        self._table = tf.Variable(tf.concat(encoded, axis=0), trainable=False, name="item_representations")
        # One tensor for the table's keys and for the answers of retrieval, so that a graph holds it once.
        self.ids = tf.constant(ids, spec.item_id.dtype)
        self._rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(self.ids, tf.range(len(ids), dtype=tf.int64)),
            default_value=len(ids))

    @property
    def shape(self) -> tuple[int, int]:
        """(items, the content-free one not counted; width of a representation)."""
        return self._table.shape[0] - 1, self._table.shape[1]

    @property
    def table(self) -> tf.Tensor:
        """Representations `[I + 1, Di]` float32 in the catalogue's order, the content-free item last."""
        return tf.convert_to_tensor(self._table)

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the rows of raw ids, int64 of the same shape; I for ids that the catalogue does not have."""
        return self._rows.lookup(ids)

    def encode(self, raw: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor | None]:
        return tf.gather(self._table, self.rows(raw[self.features[0].name])), None


def catalogue_ids(recommender: Recommender, items: pd.DataFrame) -> np.ndarray:
    """Returns the raw ids `[I]` of a catalogue; ExportError if they cannot serve as keys."""
    feature = recommender.feature_spec.item_id
    if "item_id" not in items.columns:
        raise ExportError(f"A catalogue requires the column 'item_id', received columns {list(items.columns)}.")
    ids = raw_array(items["item_id"], feature)
    if not len(ids):
        raise ExportError("A catalogue requires at least one item, received none.")
    missing = np.flatnonzero(ids == feature.missing)
    if len(missing):
        raise ExportError(f"Every item of a catalogue requires an id; row {missing[0]} has none.")
    repeated = pd.Series(ids)[pd.Series(ids).duplicated()]
    if len(repeated):
        raise ExportError(f"The ids of a catalogue must differ; '{repeated.iloc[0]}' occurs more than once.")
    size = int(sum(map(len, ids))) if feature.dtype == "string" else ids.nbytes
    if size > MAX_ID_BYTES:
        raise ExportError(f"The ids of a catalogue require at most {MAX_ID_BYTES} bytes in all, received {size}. "
                          "Export with --item-features request, or shorten the ids.")
    return ids
