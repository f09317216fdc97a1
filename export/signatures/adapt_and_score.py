"""`adapt_and_score`: adapts to a support set, then scores candidates.

    inputs   those of `score`; support_<item feature> [B, S, ...], support_label [B, S] float32 in the label's own
             unit, support_length [B] int32: rows beyond it are padding. An empty support is width 1, length 0.
    outputs  scores [B, Q] float32 adapted, base_scores [B, Q] float32 (what `score` returns), status [B] int32

With no usable support row, `scores` equals `base_scores` bit for bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from export.signatures import status
from export.signatures.context import SignatureContext
from export.signatures.inputs import support_specs, take
from export.signatures.score import either, encode_request
from export.signatures.score import input_specs as score_specs
from export.signatures.support import CleanSupport, clean_support


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {**score_specs(context), **support_specs(context.items.features)}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    def adapt_and_score(inputs):
        user, query, replaced, tasks = encode_request(context, inputs)
        support = encode_support(context, inputs)
        scores, base = context.adapt_and_score(user, query_item=query, **support.adaptation)
        return {"scores": scores, "base_scores": base, "status": status.combine(tasks, support.flags(replaced))}

    return adapt_and_score


class EncodedSupport(NamedTuple):
    """A request's support, cleaned and encoded.

    Attributes:
      item: `[B, W, Di]`.
      clean: which rows these are, and their labels.
      replaced: bool `[B]` or None, a kept row had a non-finite feature.
    """

    item: tf.Tensor
    clean: CleanSupport
    replaced: tf.Tensor | None

    @property
    def adaptation(self) -> dict[str, tf.Tensor]:
        """The arguments of `Recommender.adapt` after the user."""
        return {"support_item": self.item, "support_label": self.clean.label, "support_length": self.clean.length}

    def flags(self, replaced: tf.Tensor | None) -> dict[int, tf.Tensor | None]:
        """Returns the flags of `status.combine`; `replaced` is that of the request's other parts."""
        return {status.LABEL_DROPPED: self.clean.dropped, status.FEATURE_REPLACED: either(replaced, self.replaced),
                status.LENGTH_CLAMPED: self.clean.clamped}


def encode_support(context: SignatureContext, inputs: dict[str, tf.Tensor]) -> EncodedSupport:
    """Cleans and encodes the support of a request."""
    clean = clean_support(inputs["support_label"], inputs["support_length"], info=context.feature_spec.label,
                          bound=context.support_bound)
    raw = {name: clean.gather(v) for name, v in take(inputs, "support", context.items.features).items()}
    item, bad = context.items.encode(raw)
    if bad is not None:
        used = tf.sequence_mask(clean.length, tf.shape(clean.index)[1])
        bad = tf.reduce_any(bad & used, axis=1)
    return EncodedSupport(item, clean, bad)
