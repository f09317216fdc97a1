"""`score`: unadapted scores of candidates.

    inputs   user_<feature> [B, ...], query_<item feature> [B, Q, ...]
    outputs  scores [B, Q] float32 in the label's own unit, status [B] int32

Padding of the query adds columns of scores, which the client slices off.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import status
from export.signatures.context import SignatureContext
from export.signatures.inputs import item_specs, take, user_specs


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {**user_specs(context.feature_spec.user_features), **item_specs("query", context.items.features)}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    def score(inputs):
        user, query, replaced, tasks = encode_request(context, inputs)
        return {"scores": context.recommender.score(user, query),
                "status": status.combine(tasks, {status.FEATURE_REPLACED: replaced})}

    return score


def encode_request(context: SignatureContext, inputs: dict[str, tf.Tensor]):
    """Encodes what every scoring signature has.

    Returns:
      user `[B, Du]`, query `[B, Q, Di]`, bool `[B]` or None (a non-finite feature was replaced), B.
    """
    query_raw = take(inputs, "query", context.items.features)
    # The item id is always an input; users may have no features at all.
    tasks = tf.shape(query_raw[context.feature_spec.item_id.name])[0]
    user, user_bad = context.encode_user(take(inputs, "user", context.feature_spec.user_features), tasks)
    query, query_bad = context.items.encode(query_raw)
    return user, query, either(user_bad, None if query_bad is None else tf.reduce_any(query_bad, axis=1)), tasks


def either(first: tf.Tensor | None, second: tf.Tensor | None) -> tf.Tensor | None:
    """Logical or of two bool tensors, either of which may be absent."""
    if first is None or second is None:
        return second if first is None else first
    return first | second
