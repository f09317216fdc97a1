"""A meta-batch of tasks, in rows or in features."""

from typing import NamedTuple

import tensorflow as tf


class IndexedTaskBatch(NamedTuple):
    """A meta-batch in rows of the user and item tables: what the input pipeline delivers.

    Padding: rows are -1, labels 0. Labels are in the data set's own unit.
    """

    user_row: tf.Tensor  # [B] int32
    support_row: tf.Tensor  # [B, S] int32
    support_label: tf.Tensor  # [B, S] float32
    support_length: tf.Tensor  # [B] int32
    query_row: tf.Tensor  # [B, Q] int32
    query_label: tf.Tensor  # [B, Q] float32
    query_length: tf.Tensor  # [B] int32


class TaskBatch(NamedTuple):
    """A meta-batch in transformed features: what a recommender reads.

    Feature dictionaries map a feature's name to a tensor with the leading axes below; see `Feature` for the
    trailing shapes and dtypes. Whatever padded positions hold, NaN included, never changes a result.
    """

    user: dict[str, tf.Tensor]  # [B, ...]
    support_item: dict[str, tf.Tensor]  # [B, S, ...]
    support_label: tf.Tensor  # [B, S] float32
    support_length: tf.Tensor  # [B] int32
    query_item: dict[str, tf.Tensor]  # [B, Q, ...]
    query_label: tf.Tensor  # [B, Q] float32
    query_length: tf.Tensor  # [B] int32
