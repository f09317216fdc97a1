"""Maximal marginal relevance: a list of good items that are not all alike."""

import tensorflow as tf


def diversify(relevance: tf.Tensor, vectors: tf.Tensor, *, count: int, weight: float) -> tf.Tensor:
    """Chooses items one by one, each the best by its relevance and its distance from those chosen before:

        argmax_i (1 - weight) * relevance_i - weight * max_{j chosen} cos(v_i, v_j)

    Relevance is scaled to 0..1 between the least and the most relevant candidate, so that it and the cosine have one
    scale. Source: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
    Producing Summaries", SIGIR 1998, section 2, with lambda = 1 - weight; the first choice, which has nothing to be
    unlike, is the most relevant one. Of equals the first candidate is taken.

    Args:
      relevance: `[B, M]`, best first, -inf for what is no candidate.
      vectors: `[B, M, D]`, of the candidates.
      count: items to choose, at most M.
      weight: of diversity, 0 to 1.

    Returns:
      positions among the candidates `[B, count]` int32, in the order of choice; M where none is left.
    """
    candidate = tf.math.is_finite(relevance)
    best = relevance[:, :1]
    least = tf.reduce_min(tf.where(candidate, relevance, float("inf")), axis=1, keepdims=True)
    span = tf.where(tf.math.is_finite(best) & (best > least), best - least, tf.ones_like(best))
    scaled = (1 - weight) * tf.where(candidate, (relevance - least) / span, tf.zeros_like(relevance))
    norm = tf.sqrt(tf.maximum(tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True), 1e-24))
    unit = tf.where(candidate[..., None], vectors / norm, tf.zeros_like(vectors))
    width = tf.shape(relevance)[1]

    def step(number, chosen, free, alike):
        # Nothing is unlike before the first choice: no penalty, rather than the lowest cosine.
        penalty = tf.cast(tf.where(number > 0, weight, 0.0), alike.dtype) * alike
        value = tf.where(free, scaled - penalty, -float("inf"))
        pick = tf.argmax(value, axis=1, output_type=tf.int32)
        pick = tf.where(tf.reduce_any(free, axis=1), pick, width)
        taken = tf.one_hot(pick, width, on_value=True, off_value=False, dtype=tf.bool)
        vector = tf.gather(unit, tf.minimum(pick, width - 1), batch_dims=1)
        alike = tf.maximum(alike, tf.linalg.matvec(unit, vector))
        return number + 1, tf.concat([chosen[:, 1:], pick[:, None]], axis=1), free & ~taken, alike

    tasks = tf.shape(relevance)[0]
    start = (tf.constant(0), tf.zeros([tasks, count], tf.int32), candidate, -tf.ones_like(relevance))
    return tf.while_loop(
        lambda number, *_: number < count, step, start, parallel_iterations=1, maximum_iterations=count,
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, count]), relevance.shape, relevance.shape))[1]
