"""`adapt_and_recommend`: adapts to a support set, then finds the best items of the catalogue.

    inputs   those of `recommend`, and the support as in `adapt_and_score`
    outputs  those of `recommend`

Items of the support are left out, also those whose label was dropped or that lie beyond the support's bound. With no
usable support row the list is that of `recommend` under the same exclusions.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import status
from export.signatures.adapt_and_score import encode_support
from export.signatures.context import SignatureContext
from export.signatures.inputs import support_specs, take
from export.signatures.recommend import available as available
from export.signatures.recommend import excluded_rows, listed_rows, make_retriever
from export.signatures.recommend import input_specs as recommend_specs


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {**recommend_specs(context), **support_specs(context.items.features)}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    retriever = make_retriever(context)

    def adapt_and_recommend(inputs):
        excluded, clamped = excluded_rows(context, inputs)
        tasks = tf.shape(excluded)[0]
        user, replaced = context.encode_user(take(inputs, "user", context.feature_spec.user_features), tasks)
        support = encode_support(context, inputs)
        ids = take(inputs, "support", context.items.features)[context.feature_spec.item_id.name]
        seen, _ = listed_rows(context, ids, inputs["support_length"])
        found = retriever.recommend(user, excluded=tf.concat([excluded, seen], axis=1),
                                    fast=context.recommender.adapt(user, **support.adaptation),
                                    adapted=support.clean.length > 0)
        flags = support.flags(replaced)
        flags[status.LENGTH_CLAMPED] |= clamped
        return {**found, "status": status.combine(tasks, flags)}

    return adapt_and_recommend
