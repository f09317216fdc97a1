"""`score_with_state`: scores candidates for a user whose adapted state the client kept.

    inputs   user_state [B, P] float32 and state_model [B] string, both from `adapt`; those of `score`
    outputs  scores [B, Q] float32, status [B] int32

A state of another model is never used: its row gets unadapted scores and status 4, whatever its width. A state that
holds a value that is not finite, or whose scores are not, gets unadapted scores and status 2. The state of an empty
support scores exactly as `score`.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import status
from export.signatures.context import SignatureContext
from export.signatures.score import either, encode_request
from export.signatures.score import input_specs as score_specs
from export.user_state import UserState

# A state this near to the unadapted one, relative to its largest number, differs by rounding alone: the same user in
# a batch of another size.
_ROUNDING = 1e-6


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    # The width is free, so that the state of a model of another width is answered, and padding by a batch merge too.
    return {"user_state": tf.TensorSpec([None, None], tf.float32, name="user_state"),
            "state_model": tf.TensorSpec([None], tf.string, name="state_model"), **score_specs(context)}


def client_shapes(context: SignatureContext) -> dict[str, list[int | None]]:
    """Returns the shapes of inputs of which clients send less than the graph takes."""
    return {"user_state": [None, UserState(context.recommender).width]}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    recommender, layout = context.recommender, UserState(context.recommender)

    def score_with_state(inputs):
        user, query, replaced, tasks = encode_request(context, inputs)
        given, width = inputs["user_state"][:, :layout.width], tf.shape(inputs["user_state"])[1]
        given = tf.pad(given, [[0, 0], [0, tf.maximum(layout.width - width, 0)]])
        given = tf.ensure_shape(given, [None, layout.width])
        own = tf.equal(inputs["state_model"], context.fingerprint) & (width >= layout.width)
        finite = tf.reduce_all(tf.math.is_finite(given), axis=1)
        start = layout.flatten(recommender.learner.init(user), tasks=tasks)
        state = tf.where((own & finite)[:, None], given, start)
        size = tf.maximum(tf.reduce_max(tf.abs(start), axis=1), 1.0)
        adapted = tf.reduce_max(tf.abs(state - start), axis=1) > _ROUNDING * size
        base = recommender.score(user, query)
        scores = recommender.predict_scores(layout.unflatten(state), user, query)
        usable = tf.reduce_all(tf.math.is_finite(scores), axis=1)
        broken = own & ~(finite & usable)
        return {"scores": tf.where((adapted & usable)[:, None], scores, base),
                "status": status.combine(tasks, {status.FEATURE_REPLACED: either(replaced, broken),
                                                 status.STATE_REJECTED: ~own})}

    return score_with_state
