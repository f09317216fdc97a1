"""Transformed features of all users and items of a prepared directory, as tensors to gather from."""

import tensorflow as tf

from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.raw_columns import missing_row, raw_columns
from tfmeta.data.task_batch import IndexedTaskBatch, TaskBatch


class FeatureTables:
    """User and item features by row.

    Attributes:
      users: feature name -> `[U, ...]` transformed.
      items: feature name -> `[I + 1, ...]` transformed, the item id among them; the last row is the
        content-free item, which padding and unknown rows point to.
      num_users, num_items: U and I, the content-free item not counted.
    """

    def __init__(self, *, users: dict[str, tf.Tensor], items: dict[str, tf.Tensor], num_users: int,
                 num_items: int):
        self.users, self.items = users, items
        self.num_users, self.num_items = num_users, num_items

    @classmethod
    def from_prepared(cls, prepared: PreparedData, *, feature_spec: FeatureSpec | None = None) -> "FeatureTables":
        """Builds the tables of a prepared directory.

        Args:
          prepared: the directory.
          feature_spec: the specification to transform with (a run's own); default the directory's.

        Raises:
          DataError: if the directory lacks a feature of the specification.
        """
        spec = feature_spec or prepared.feature_spec
        return cls(users=transform_users(spec, prepared.users), items=transform_items(spec, prepared.items),
                   num_users=len(prepared.users), num_items=len(prepared.items))

    def user(self, row: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gathers users: rows `[...]` int32 -> features `[..., ...]`."""
        return {name: tf.gather(table, row) for name, table in self.users.items()}

    def item(self, row: tf.Tensor) -> dict[str, tf.Tensor]:
        """Gathers items: rows `[...]` int32 -> features; a row outside the catalogue is the content-free item."""
        row = tf.where((row >= 0) & (row < self.num_items), row, self.num_items)
        return {name: tf.gather(table, row) for name, table in self.items.items()}

    def gather(self, batch: IndexedTaskBatch) -> TaskBatch:
        """Turns a meta-batch of rows into one of features."""
        return TaskBatch(
            user=self.user(batch.user_row), support_item=self.item(batch.support_row),
            support_label=batch.support_label, support_length=batch.support_length,
            query_item=self.item(batch.query_row), query_label=batch.query_label,
            query_length=batch.query_length)


def transform_users(spec: FeatureSpec, users) -> dict[str, tf.Tensor]:
    """Transforms a frame of raw users (one row a user) into feature name -> `[U, ...]`."""
    return FeatureTransform(spec.user_features)(_tensors(raw_columns(users, spec.user_features)))


def transform_items(spec: FeatureSpec, items) -> dict[str, tf.Tensor]:
    """Transforms a frame of raw items into feature name -> `[I + 1, ...]`, the content-free item last."""
    features = (spec.item_id, *spec.item_features)
    raw = raw_columns(items, features, rename={spec.item_id.name: "item_id"})
    last = missing_row(features)
    columns = {name: tf.concat([tf.convert_to_tensor(raw[name]), tf.convert_to_tensor(last[name])], axis=0)
               for name in raw}
    return FeatureTransform(features)(columns)


def _tensors(columns):
    return {name: tf.convert_to_tensor(column) for name, column in columns.items()}
