"""`recommend`: the best items of the catalogue for users, unadapted.

    inputs   user_<feature> [B, ...], exclude_item [B, E] raw ids that are left out, exclude_length [B] int32: what lies
             beyond is padding, and nothing is excluded with width 1, length 0
    outputs  item_ids [B, K] raw ids, best first; scores [B, K] float32 as `score` gives them; item_count [B] int32;
             status [B] int32

Where fewer than K items are left, the id is the missing one ("" or -1) and the score -inf. Ids that the catalogue does
not have exclude nothing. K is fixed at export, as is the weight of diversity.
"""

from collections.abc import Callable

import tensorflow as tf

from export.retrieval.retriever import Retriever, is_available
from export.signatures import status
from export.signatures.context import SignatureContext
from export.signatures.inputs import take, user_specs

EXCLUDE_ITEM, EXCLUDE_LENGTH = "exclude_item", "exclude_length"


def available(context: SignatureContext) -> bool:
    """Only where the graph knows the catalogue, and its scores are cheap or asked for."""
    return context.items.mode == "catalogue" and is_available(context.recommender, retrieval=context.retrieval)


def input_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    return {**user_specs(context.feature_spec.user_features), **exclude_specs(context)}


def build(context: SignatureContext) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]:
    retriever = make_retriever(context)

    def recommend(inputs):
        excluded, clamped = excluded_rows(context, inputs)
        tasks = tf.shape(excluded)[0]
        user, replaced = context.encode_user(take(inputs, "user", context.feature_spec.user_features), tasks)
        flags = {status.FEATURE_REPLACED: replaced, status.LENGTH_CLAMPED: clamped}
        return {**retriever.recommend(user, excluded=excluded), "status": status.combine(tasks, flags)}

    return recommend


def make_retriever(context: SignatureContext) -> Retriever:
    """Returns what finds items, with the options of the export."""
    return Retriever(context.recommender, context.items, top_k=context.top_k, diversity=context.diversity)


def exclude_specs(context: SignatureContext) -> dict[str, tf.TensorSpec]:
    """`exclude_item` `[B, E]` of the item id's dtype and `exclude_length` `[B]` int32."""
    dtype = tf.dtypes.as_dtype(context.feature_spec.item_id.dtype)
    return {EXCLUDE_ITEM: tf.TensorSpec([None, None], dtype, name=EXCLUDE_ITEM),
            EXCLUDE_LENGTH: tf.TensorSpec([None], tf.int32, name=EXCLUDE_LENGTH)}


def excluded_rows(context: SignatureContext, inputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the catalogue's rows of the exclusion list, `[B, E]` int32, and where its length was out of range."""
    return listed_rows(context, inputs[EXCLUDE_ITEM], inputs[EXCLUDE_LENGTH])


def listed_rows(context: SignatureContext, ids: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks up a list of ids `[B, N]` of which `length [B]` are real.

    Returns:
      rows `[B, N]` int32, the catalogue's size for padding and unknown ids, and bool `[B]`: the length lay outside
      0..N.
    """
    width = tf.shape(ids)[1]
    inside = tf.clip_by_value(length, 0, width)
    rows = tf.cast(context.items.rows(ids), tf.int32)
    return (tf.where(tf.sequence_mask(inside, width), rows, context.items.shape[0]), tf.not_equal(inside, length))
