"""`embed_items`: the model's representation of items, which no adaptation changes.

    inputs   query_<item feature> [B, ...]: one item a row
    outputs  embedding [B, D] float32, status [B] int32

For two_tower with scope user_vector or context it is the item's vector with its bias as the last number.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import status
from export.signatures.context import SignatureContext
from export.signatures.inputs import item_specs, take


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    # One item a row: without the axis of candidates.
    return {name: tf.TensorSpec(spec.shape[:1].concatenate(spec.shape[2:]), spec.dtype, name=name)
            for name, spec in item_specs("query", context.items.features).items()}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    def embed_items(inputs):
        raw = take(inputs, "query", context.items.features)
        embedding, replaced = context.items.encode({name: value[:, None] for name, value in raw.items()})
        tasks = tf.shape(raw[context.feature_spec.item_id.name])[0]
        return {"embedding": tf.cast(embedding[:, 0], tf.float32),
                "status": status.combine(tasks, {
                    status.FEATURE_REPLACED: None if replaced is None else replaced[:, 0]})}

    return embed_items
