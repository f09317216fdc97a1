"""`explain`: how much each interaction of the support moved each score.

    inputs   those of `adapt_and_score`
    outputs  influence [B, Q, S] float32: the score minus what it would be without the interaction, in the score's own
             unit; scores, base_scores and status as in `adapt_and_score`

Positions are those of the request's own rows; padding, rows whose label was dropped and rows beyond the bound have
influence 0. How it is computed, and where it is exact, says `export.influence.influence.Influence`.
"""

from collections.abc import Callable

import tensorflow as tf

from export.influence.influence import Influence
from export.signatures import status
from export.signatures.adapt_and_score import encode_support
from export.signatures.adapt_and_score import input_specs as input_specs
from export.signatures.context import SignatureContext
from export.signatures.score import encode_request
from export.signatures.support import CleanSupport


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    influence = Influence(context.recommender, support_bound=context.support_bound)

    def explain(inputs):
        user, query, replaced, tasks = encode_request(context, inputs)
        support = encode_support(context, inputs)
        scores, base = context.recommender.adapt_and_score(user, query_item=query, **support.adaptation)
        found = influence(user, query_item=query, scores=scores, base=base, **support.adaptation)
        placed = scatter(tf.cast(found, tf.float32), support.clean, width=tf.shape(inputs["support_label"])[1])
        return {"influence": placed, "scores": scores, "base_scores": base,
                "status": status.combine(tasks, support.flags(replaced))}

    return explain


def scatter(values: tf.Tensor, clean: CleanSupport, *, width: tf.Tensor) -> tf.Tensor:
    """Puts what belongs to kept rows, `[B, Q, W]`, back to their places in the request: `[B, Q, S]`, else 0."""
    # Beyond the kept rows are other positions of the request, of which no two are one, with values of 0.
    by_row = tf.transpose(values, [0, 2, 1])
    shape = tf.shape(by_row)
    tasks = tf.broadcast_to(tf.range(shape[0])[:, None], shape[:2])
    placed = tf.scatter_nd(tf.stack([tasks, clean.index], axis=-1), by_row, tf.stack([shape[0], width, shape[2]]))
    return tf.transpose(placed, [0, 2, 1])
