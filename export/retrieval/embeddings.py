"""Item vectors as a Parquet file, for an approximate index outside the graph.

    item_id     string or int64, the raw id
    embedding   list of float32, W numbers
    bias        float32

With a user's vector and bias, which a user state holds (docs/recommend_and_explain.md says where),

    output = embedding . vector + bias + user's bias

so an index for inner products over `[embedding, bias]`, asked for `[vector, 1]`, ranks items as the model does.
"""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from export.items.catalogue_items import CatalogueItems, catalogue_ids
from tfmeta.errors import ExportError
from tfmeta.io import filesystem
from tfmeta.models.recommender import Recommender

FILE = "item_embeddings.parquet"
# Instead of a path: the file above, beside the graph.
BESIDE = "beside"


def require_index(recommender: Recommender) -> None:
    """Raises ExportError for a model whose scores are no product of a user's and an item's vector."""
    if not recommender.learner.has_index:
        raise ExportError("Item embeddings require a model whose scores are products with item vectors that no user "
                          "changes, such as two_tower with scope user_vector, received "
                          f"'{recommender.model.name}' with scope '{recommender.model.scope}' and learner "
                          f"'{recommender.learner.name}'. Export without them.")


def write(path: str, recommender: Recommender, items: pd.DataFrame) -> None:
    """Writes the vectors and biases of a catalogue.

    The bias is the item's own plus the constant that every output has.

    Args:
      path: file to write, on any file system.
      recommender: with an index, see `require_index`.
      items: the raw catalogue, as `export_model` takes it.

    Raises:
      ExportError: if the catalogue cannot be used or the model has no index.
    """
    require_index(recommender)
    ids = catalogue_ids(recommender, items)
    with tf.device("/CPU:0"):
        index = recommender.model.index_items(CatalogueItems(recommender, items).table[:-1])
        constant = float(recommender.model.index_constant())
    values = np.asarray(index.numpy(), np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values[:, :-1].ravel()), values.shape[1] - 1)
    string = recommender.feature_spec.item_id.dtype == "string"
    table = pa.table({"item_id": pa.array(ids.tolist(), pa.string() if string else pa.int64()),
                      "embedding": vectors.cast(pa.list_(pa.float32())),
                      "bias": pa.array(values[:, -1] + np.float32(constant))})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    filesystem.write_bytes(path, buffer.getvalue())
