"""Turns serialised tf.Example into the inputs of a signature."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from export.signatures.context import SignatureContext
from tfmeta.data.feature import Feature
from tfmeta.serving.input_names import input_names


class ParsedExamples(NamedTuple):
    """What examples hold.

    Attributes:
      inputs: those of `score`, or of `adapt_and_score`.
      query_length: `[B]` int32, candidates of each example.
      misfit: `[B]` bool, the lengths of an example's lists do not fit each other.
    """

    inputs: dict[str, tf.Tensor]
    query_length: tf.Tensor
    misfit: tf.Tensor


class ExampleParser:
    """Parses flat examples: one list per input, named like it, rows one after the other.

    An item side has as many rows as its list of ids, the support as many as it has ids and labels; the other lists
    hold `length` values a row. A list that is absent or empty stands for missing values. Where a list is too short the
    rest is missing, where it is too long the rest is left out, and the example counts as a misfit. Widths are at least
    1, so that no tensor is empty. Only bytes that are no tf.Example, or a list of another kind than the feature's,
    make the graph fail.

    Args:
      context: of the signatures.
      support: whether examples carry a support.
    """

    def __init__(self, context: SignatureContext, *, support: bool):
        spec = context.feature_spec
        self._id = spec.item_id.name
        self._sides = {"user": spec.user_features, "query": context.items.features}
        if support:
            self._sides["support"] = context.items.features
        self._names = {side: input_names(side, features) for side, features in self._sides.items()}
        self._lists = {self._names[side][f.name]: _ragged(f.dtype)
                       for side, features in self._sides.items() for f in features}
        if support:
            self._lists["support_label"] = _ragged("float32")

    def __call__(self, examples: tf.Tensor) -> ParsedExamples:
        """Parses `[B]` strings."""
        lists = tf.io.parse_example(examples, self._lists)
        inputs, misfits = {}, []
        ones = tf.ones([tf.size(examples)], tf.int32)
        rows = {side: ones if side == "user" else lists[self._names[side][self._id]].row_lengths()
                for side in self._sides}
        if "support" in rows:
            labels = lists["support_label"].row_lengths()
            misfits.append(tf.not_equal(labels, rows["support"]))
            rows["support"] = tf.minimum(labels, rows["support"])
        for side, features in self._sides.items():
            width = None if side == "user" else tf.maximum(tf.reduce_max(rows[side]), 1)
            for feature in features:
                name = self._names[side][feature.name]
                inputs[name], misfit = _dense(lists[name], feature, rows=rows[side], width=width)
                misfits.append(misfit)
            if side == "support":
                inputs["support_label"] = lists["support_label"].to_tensor(0.0, shape=tf.stack([-1, width]))
                inputs["support_label"].set_shape([None, None])
                inputs["support_length"] = rows["support"]
        return ParsedExamples(inputs, rows["query"], tf.reduce_any(tf.stack(misfits), axis=0))


def absent(feature: Feature) -> np.ndarray:
    """Returns the raw value, `raw_shape`, of an absent list: one that the transform takes for missing.

    For numbers it is the mean, which standardises to 0 as NaN does but is no replaced value.
    """
    if feature.dtype == "float32":
        return np.broadcast_to(np.asarray(feature.mean or (0.0,), np.float32),
                               feature.raw_shape or (1,)).reshape(feature.raw_shape)
    return np.full(feature.raw_shape, feature.missing, object if feature.dtype == "string" else np.int64)


def _ragged(dtype: str) -> tf.io.RaggedFeature:
    return tf.io.RaggedFeature(tf.dtypes.as_dtype(dtype), row_splits_dtype=tf.int32)


def _dense(values: tf.RaggedTensor, feature: Feature, *, rows: tf.Tensor,
           width: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `[B, W, ...]` (`[B, ...]` without a width), and bool `[B]`: the list's length does not fit its rows."""
    size = feature.length if feature.raw_shape else 1
    given = values.row_lengths()
    count = (1 if width is None else width) * size
    dense = values.to_tensor(default_value=_filler(feature), shape=tf.stack([-1, count]))
    if feature.dtype == "float32":
        fill = tf.tile(tf.constant(absent(feature).reshape(-1)), [count // size])
        dense = tf.where(tf.sequence_mask(tf.minimum(given, rows * size), count), dense, fill)
    lead = [-1] if width is None else [-1, width]
    dense = tf.reshape(dense, tf.stack([*lead, *feature.raw_shape]))
    dense.set_shape([None] * len(lead) + list(feature.raw_shape))
    return dense, (given > 0) & tf.not_equal(given, rows * size)


def _filler(feature: Feature):
    return {"string": "", "int64": -1, "float32": 0.0}[feature.dtype]
