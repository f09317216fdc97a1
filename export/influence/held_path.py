"""First-order leave-one-out of gradient learners: each step is taken without the row, on the path of all rows."""

import tensorflow as tf

from export.influence.row_chunks import join, over_rows, repeat
from tfmeta.learners.descent import Descent
from tfmeta.learners.inner_loop import clip_by_task_norm
from tfmeta.learners.task_tensors import Support
from tfmeta.models.fast_weights import Fast, materialise
from tfmeta.models.recommender import Recommender


def influence(recommender: Recommender, descent: Descent, support: Support, query: tf.Tensor, *,
              at_once: tf.Tensor | int) -> tf.Tensor:
    """Returns by how much each row moved each score: `[B, W, Q]`, 0 for padding.

    With theta_t the weights after t steps, G_t the sum of the rows' gradients there, g_ti that of row i, s(n) the
    shrinkage and c the clipping,

        theta^i     = theta_0 - sum_t rate_t c(s(n - 1) (G_t - g_ti) / (n - 1))
        influence_i = score(theta_T) - score(theta^i)

    So every step is decomposed into its rows, and taken as it would be without one of them; what is ignored is that
    the later gradients would be taken elsewhere, which is of second order in the rates. For one step this is exact
    leave-one-out, and so it is for a support of one row. Where the score is linear in the weights and nothing is
    clipped, the influences of n rows add up to the share n (s(n) - s(n - 1)) / s(n) of what adaptation moved the score
    by: nothing for a plain mean over two or more rows, which the rest would have moved as far; nearly all of it where
    the shrinkage is large.

    Summing a row's gradients along the path follows Pruthi, Liu, Kale and Sundararajan, "Estimating Training Data
    Influence by Tracing Gradient Descent", NeurIPS 2020, section 3.

    Args:
      recommender: that adapts.
      descent: its learner's.
      support: of B tasks, W rows wide.
      query: `[B, Q, Di]`.
      at_once: rows taken at a time.
    """
    learner, tasks = recommender.learner, tf.shape(support.length)[0]
    start = materialise(learner.init(support.user), tasks=tasks)
    count = tf.cast(support.length, support.target.dtype)
    path, fast = [], start
    for rate in descent.rates:
        mean = _gradient(descent, fast, support)
        path.append((fast, mean))
        move = _clip(mean, weight=_share(count, descent), clip_norm=descent.clip_norm)
        fast = {name: value - rate[name] * move[name] for name, value in fast.items()}
    full = recommender.predict_scores(fast, support.user, query)
    if not path:
        return tf.zeros_like(tf.tile(full[:, None, :], [1, tf.shape(support.target)[1], 1]))
    # The path is known, so all its steps are tasks of one batch: [T * B, ...].
    points, means = ({name: tf.concat([step[which][name] for step in path], axis=0) for name in start}
                     for which in (0, 1))

    def part(rows):
        times, steps = tf.shape(rows)[0], len(path)
        length = tf.reshape(tf.cast(rows[None, :] < support.length[:, None], tf.int32), [-1])
        item = join(tf.gather(support.item, rows, axis=1)[:, :, None, :])
        one = Support(user=_tile(repeat(support.user, times), steps), length=_tile(length, steps),
                      item=tf.ensure_shape(_tile(item, steps), [None, 1, support.item.shape[-1]]),
                      target=_tile(join(tf.gather(support.target, rows, axis=1)[:, :, None]), steps))
        own = _gradient(descent, {name: repeat(value, times) for name, value in points.items()}, one)
        n = _tile(repeat(count, times), steps)
        others = tf.math.divide_no_nan(tf.ones_like(n), n - 1)
        rest = {name: _times(_times(repeat(means[name], times), n) - value, others) for name, value in own.items()}
        move = _clip(rest, weight=_share(n - 1, descent), clip_norm=descent.clip_norm)
        moved = {name: repeat(start[name], times) - _sum_of_steps(move[name], [rate[name] for rate in descent.rates])
                 for name in start}
        scores = recommender.predict_scores(moved, repeat(support.user, times), repeat(query, times))
        scores = tf.reshape(scores, [-1, times, tf.shape(query)[1]])
        kept = tf.reshape(length > 0, [-1, times, 1])
        return tf.where(kept, full[:, None, :] - scores, tf.zeros_like(scores))

    return over_rows(part, width=tf.shape(support.target)[1], at_once=at_once, like=full)


def _gradient(descent: Descent, fast: Fast, support: Support) -> Fast:
    """Returns each task's gradient of the mean loss of its rows; 0 for a task without."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(fast)
        output = descent.scorer.apply(fast, support.user, support.item)
        total = tf.reduce_sum(descent.loss(output, support.target, support.length))
    return tape.gradient(total, fast, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _share(count: tf.Tensor, descent: Descent) -> tf.Tensor:
    """Returns s(n), `[B]`: 0 for no rows."""
    if not descent.shrinkage:
        return tf.cast(count > 0, count.dtype)
    return tf.maximum(count, 0) / (tf.maximum(count, 0) + descent.shrinkage)


def _clip(mean: Fast, *, weight: tf.Tensor, clip_norm: float | None) -> Fast:
    gradient = {name: _times(value, weight) for name, value in mean.items()}
    return gradient if clip_norm is None else clip_by_task_norm(gradient, clip_norm=clip_norm)


def _sum_of_steps(move: tf.Tensor, rates: list[tf.Tensor]) -> tf.Tensor:
    """Sums `rate * move` over the steps: `[T * N, ...]` -> `[N, ...]`; rates are scalars or of a weight's shape."""
    by_step = tf.reshape(move, tf.concat([[len(rates), -1], tf.shape(move)[1:]], axis=0))
    rate = tf.stack(rates)
    lead = [len(rates)] + [1] * (move.shape.rank - rate.shape.rank + 1)
    summed = tf.reduce_sum(tf.reshape(rate, [*lead, *rate.shape[1:]]) * by_step, axis=0)
    return tf.ensure_shape(summed, [None, *move.shape[1:]])


def _tile(tensor: tf.Tensor, times: int) -> tf.Tensor:
    """Repeats a batch: `[N, ...]` -> `[times * N, ...]`, whole copies one after the other."""
    return tf.concat([tensor] * times, axis=0)


def _times(value: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies each task's value `[B, ...]` by its number `[B]`."""
    return value * tf.reshape(factor, [-1] + [1] * (value.shape.rank - 1))
