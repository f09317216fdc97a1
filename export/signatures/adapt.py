"""`adapt`: adapts to a support set and returns the result for the client to keep.

    inputs   user_<feature> [B, ...] and the support as in `adapt_and_score`
    outputs  user_state [B, P] float32: the adapted weights, flat (see `export.user_state`); state_model [B] string: the
             fingerprint of the model that the state belongs to; status [B] int32

`score_with_state` takes both back. With no usable support row, or where adaptation left the range of floats, the state
is the unadapted one, which scores as `score` does.
"""

from collections.abc import Callable

import tensorflow as tf

from export.signatures import status
from export.signatures.adapt_and_score import encode_support
from export.signatures.context import SignatureContext
from export.signatures.inputs import support_specs, take, user_specs
from export.user_state import UserState


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {**user_specs(context.feature_spec.user_features), **support_specs(context.items.features)}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    recommender, layout = context.recommender, UserState(context.recommender)

    def adapt(inputs):
        tasks = tf.shape(inputs["support_length"])[0]
        user, replaced = context.encode_user(take(inputs, "user", context.feature_spec.user_features), tasks)
        support = encode_support(context, inputs)
        start = layout.flatten(recommender.learner.init(user), tasks=tasks)
        state = layout.flatten(context.adapt(user, **support.adaptation), tasks=tasks)
        usable = tf.reduce_all(tf.math.is_finite(state), axis=1) & (support.clean.length > 0)
        return {"user_state": tf.where(usable[:, None], state, start),
                "state_model": tf.fill([tasks], context.fingerprint),
                "status": status.combine(tasks, support.flags(replaced))}

    return adapt
