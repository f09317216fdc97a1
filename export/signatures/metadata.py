"""`metadata`: documents about the model, for clients that have no access to its directory.

    inputs   document [B] string: `feature_spec` or `export`
    outputs  json [B] string, empty for any other name; status [B] int32

`feature_spec` is the feature specification without the vocabularies of user and item ids, which can be large and are
nobody's business; `export` is export.json: signatures, bounds, label, widths, fingerprint.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from export.signatures import status
from export.signatures.context import SignatureContext
from tfmeta.data.feature_spec import FeatureSpec

DESCRIPTION = {"inputs": {"document": {"dtype": "string", "shape": [None]}},
               "outputs": {"json": {"dtype": "string", "shape": [None]},
                           "status": {"dtype": "int32", "shape": [None]}}}
# Rows answered at once: a request of many names must not ask for any amount of memory. As many as request batching
# merges by default, so that a neighbour's rows push nobody's beyond it.
MOST_ROWS = 1000


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {"document": tf.TensorSpec([None], tf.string, name="document")}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    def metadata(inputs):
        document = inputs["document"]
        tasks = tf.shape(document)[0]
        beyond = tf.range(tasks) >= MOST_ROWS
        found = tf.fill([tasks], "")
        for name, text in context.documents.items():
            found = tf.where(tf.equal(document, name) & ~beyond, tf.constant(text), found)
        return {"json": found, "status": status.combine(tasks, {status.LENGTH_CLAMPED: beyond})}

    return metadata


def without_ids(spec: FeatureSpec) -> FeatureSpec:
    """Returns the specification without the vocabularies of user and item ids."""
    return dataclasses.replace(spec, user_id=dataclasses.replace(spec.user_id, vocabulary=None),
                               item_id=dataclasses.replace(spec.item_id, vocabulary=None))
