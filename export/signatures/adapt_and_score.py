"""`adapt_and_score`: adapts to a support set, then scores candidates.

    inputs   those of `score`; support_<item feature> [B, S, ...], support_label [B, S] float32 in the label's own
             unit, support_length [B] int32: rows beyond it are padding. An empty support is width 1, length 0.
    outputs  scores [B, Q] float32 adapted, base_scores [B, Q] float32 (what `score` returns), status [B] int32

With no usable support row, `scores` equals `base_scores` bit for bit.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import status
from export.signatures.context import SignatureContext
from export.signatures.inputs import support_specs, take
from export.signatures.score import either, encode_request
from export.signatures.score import input_specs as score_specs
from export.signatures.support import clean_support


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {**score_specs(context), **support_specs(context.items.features)}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    def adapt_and_score(inputs):
        user, query, replaced, tasks = encode_request(context, inputs)
        clean = clean_support(inputs["support_label"], inputs["support_length"], info=context.feature_spec.label,
                              bound=context.support_bound)
        raw = {name: clean.gather(v) for name, v in take(inputs, "support", context.items.features).items()}
        support, support_bad = context.items.encode(raw)
        if support_bad is not None:
            used = tf.sequence_mask(clean.length, tf.shape(clean.index)[1])
            support_bad = tf.reduce_any(support_bad & used, axis=1)
        scores, base = context.recommender.adapt_and_score(
            user, support_item=support, support_label=clean.label, support_length=clean.length, query_item=query)
        flags = {status.LABEL_DROPPED: clean.dropped, status.FEATURE_REPLACED: either(replaced, support_bad),
                 status.LENGTH_CLAMPED: clean.clamped}
        return {"scores": scores, "base_scores": base, "status": status.combine(tasks, flags)}

    return adapt_and_score
