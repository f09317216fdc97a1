"""Gradient descent on fast weights: pure functions of tensors."""

from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from tfmeta.learners.task_tensors import Support
from tfmeta.models.fast_weights import Fast, FastWeight, LowRank, Shared, concatenate, materialise
from tfmeta.models.layers.dense_record import DenseCall, DenseRecord
from tfmeta.models.layers.fast_dense_stack import inner_products
from tfmeta.models.meta_model import MetaModel

TaskLoss = Callable[[tf.Tensor], tf.Tensor]
# Name of a fast weight -> its inner learning rate; one such mapping, or one for each step.
Rates = dict[str, tf.Tensor] | Sequence[dict[str, tf.Tensor]]
# Below that many inputs a kernel per task is cheaper than the inner products that stand for it.
_LOW_RANK_WIDTH = 64


def descend(model: MetaModel, fast: Fast, support: Support, *, loss: TaskLoss, steps: int, rates: Rates,
            first_order: bool | tf.Tensor, clip_norm: float | None = None) -> Fast:
    """Takes gradient steps `fast - rate * gradient` on the support loss, for all tasks at once.

    Tasks do not share fast weights, so the gradient of the summed loss holds each task's own gradient. Models whose
    fast weights are all dense layers are differentiated by the layers' outputs: for `z = x K + b` the gradient by K
    is `x^T dz`. Where x is the same in every step, the adapted kernel `K - sum_t rate x^T dz_t` is never formed: its
    products with the support and the query follow from inner products of their rows. These are the same numbers as
    those of plain descent, up to rounding.

    Args:
      model: that scores.
      fast: where to start.
      support: encoded support sets.
      loss: outputs `[B, S]` -> `[B]`.
      steps: number of steps.
      rates: name -> inner learning rate, a scalar or broadcastable to the fast weight; or one such mapping a step.
      first_order: treat gradients as constants in the outer loop; a scalar bool tensor decides it at run time, at the
        cost of second order, and without control flow, which XLA could not differentiate.
      clip_norm: bound of each task's gradient norm over all its fast weights; None for no bound.

    Returns:
      the adapted fast weights, in whichever form is cheapest.
    """
    if not model.layered:
        return plain_descend(model, fast, support, loss=loss, steps=steps, rates=rates, first_order=first_order,
                             clip_norm=clip_norm)
    return [fast, *_layered_steps(model, fast, support, loss=loss, rates=_by_step(rates, steps),
                                  first_order=first_order, clip_norm=clip_norm)][-1]


def trajectory(model: MetaModel, fast: Fast, support: Support, *, loss: TaskLoss, steps: int, rates: Rates,
               first_order: bool | tf.Tensor, clip_norm: float | None = None) -> Iterator[Fast]:
    """Yields the fast weights after each step of `descend`; arguments as there."""
    walk = _layered_steps if model.layered else _plain_steps
    return walk(model, fast, support, loss=loss, rates=_by_step(rates, steps), first_order=first_order,
                clip_norm=clip_norm)


def _by_step(rates: Rates, steps: int) -> Sequence[dict[str, tf.Tensor]]:
    return [rates] * steps if isinstance(rates, dict) else rates


def _layered_steps(model, fast, support, *, loss, rates, first_order, clip_norm):
    record = DenseRecord()
    for step, rate in enumerate(rates):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            record.start(tape)
            losses = loss(model.apply(fast, support.user, support.item, record=record))
        record.stop()
        outputs = {name: call.output for name, call in record.calls.items()}
        # Given, the ones are the same in every step, and so is all that a graph derives from them alone.
        ones = tf.ones(tf.shape(support.length), losses.dtype)
        gradients = tape.gradient(losses, outputs, output_gradients=ones,
                                  unconnected_gradients=tf.UnconnectedGradients.ZERO)
        moves = {name: _Move(call, gradients[name], first_order=first_order, last=step == len(rates) - 1)
                 for name, call in record.calls.items()}
        if clip_norm is not None:
            scale = _clip_scale([m.squared_norm(record, name) for name, m in moves.items()], clip_norm)
            for move in moves.values():
                move.gradient *= tf.cast(scale, move.gradient.dtype)[:, None, None]
        fast = dict(fast)
        for name, move in moves.items():
            for part in ("kernel", "bias"):
                key = f"{name}_{part}"
                fast[key] = getattr(move, part)(fast[key], rate[key])
        yield fast


def plain_descend(model: MetaModel, fast: Fast, support: Support, *, loss: TaskLoss, steps: int, rates: Rates,
                  first_order: bool | tf.Tensor, clip_norm: float | None = None) -> Fast:
    """`descend` by differentiating the fast weights themselves; for any model. Arguments as there."""
    return [fast, *_plain_steps(model, fast, support, loss=loss, rates=_by_step(rates, steps),
                                first_order=first_order, clip_norm=clip_norm)][-1]


def _plain_steps(model, fast, support, *, loss, rates, first_order, clip_norm):
    fast = materialise(fast, tasks=tf.shape(support.length)[0])
    for rate in rates:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(fast)
            total = tf.reduce_sum(loss(model.apply(fast, support.user, support.item)))
        gradients = tape.gradient(total, fast, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = {name: _outer_view(g, first_order) for name, g in gradients.items()}
        if clip_norm is not None:
            gradients = clip_by_task_norm(gradients, clip_norm=clip_norm)
        fast = {name: value - rate[name] * gradients[name] for name, value in fast.items()}
        yield fast


def clip_by_task_norm(gradients: dict[str, tf.Tensor], *, clip_norm: float) -> dict[str, tf.Tensor]:
    """Scales each task's gradients down to a joint norm of at most `clip_norm`; name -> `[B, ...]`."""
    scale = _clip_scale([tf.reduce_sum(tf.square(g), axis=list(range(1, g.shape.rank)))
                         for g in gradients.values()], clip_norm)
    return {name: g * tf.reshape(scale, [-1] + [1] * (g.shape.rank - 1)) for name, g in gradients.items()}


def _clip_scale(squares: list[tf.Tensor], clip_norm: float) -> tf.Tensor:
    # The floor keeps the derivative of the root finite where a gradient is zero.
    return tf.minimum(clip_norm / tf.sqrt(tf.maximum(tf.add_n(squares), 1e-24)), 1.0)


def _outer_view(value: tf.Tensor, first_order: bool | tf.Tensor) -> tf.Tensor:
    """The value, with or without its derivatives."""
    constant = value if first_order is False else tf.stop_gradient(value)
    if isinstance(first_order, bool):
        return constant
    return constant + tf.where(first_order, tf.zeros([], value.dtype), 1.0) * (value - constant)


class _Move:
    """How one dense layer's weights change in one step, from the gradient by its output."""

    def __init__(self, call: DenseCall, gradient: tf.Tensor, *, first_order: bool | tf.Tensor, last: bool):
        self.gradient = _outer_view(gradient, first_order)  # [B, N, out]
        self._inputs = tuple(_outer_view(part, first_order) for part in call.inputs)  # [B, N or 1, width]
        self._constant = call.constant
        # After the last step the support is not seen again, so any shared kernel may stay in low-rank form.
        self._spanned = call.constant or last

    def kernel(self, weight: FastWeight, rate: tf.Tensor) -> FastWeight:
        width, units = sum(p.shape[-1] for p in self._inputs), self.gradient.shape[-1]
        if (self._spanned and rate.shape.rank == 0 and width >= _LOW_RANK_WIDTH and units > 1
                and isinstance(weight, Shared | LowRank)):
            dtype = (weight.value if isinstance(weight, Shared) else weight.base).dtype
            change = -rate * tf.cast(self.gradient, dtype)
            if isinstance(weight, LowRank):
                return weight._replace(coefficients=weight.coefficients + change)
            return LowRank(weight.value, self._inputs, change)
        return _value(weight) - rate * tf.cast(self._kernel_gradient(), _value(weight).dtype)

    def bias(self, weight: FastWeight, rate: tf.Tensor) -> tf.Tensor:
        value = _value(weight)
        return value - rate * tf.cast(tf.reduce_sum(self.gradient, axis=1, keepdims=True), value.dtype)

    def squared_norm(self, record: DenseRecord, name: str) -> tf.Tensor:
        """Returns the squared norm `[B]` of the gradient by kernel and bias."""
        bias = tf.reduce_sum(tf.square(tf.reduce_sum(self.gradient, axis=1)), axis=-1)
        if self._constant:
            # |x^T dz|^2 = sum over pairs of rows of (x_i . x_j) (dz_i . dz_j).
            gram = record.constant(f"{name}/gram", lambda: inner_products(self._inputs, self._inputs))
            return bias + tf.reduce_sum(self.gradient * tf.linalg.matmul(gram, self.gradient), axis=[1, 2])
        return bias + tf.reduce_sum(tf.square(self._kernel_gradient()), axis=[1, 2])

    def _kernel_gradient(self) -> tf.Tensor:
        inputs = concatenate(self._inputs, rows=tf.shape(self.gradient)[1])
        if self.gradient.shape[-1] == 1:
            return tf.reduce_sum(inputs * self.gradient, axis=1)[..., None]
        return tf.linalg.matmul(inputs, self.gradient, transpose_a=True)


def _value(weight: FastWeight) -> tf.Tensor:
    """A plain tensor that broadcasts to `[B, ...]`."""
    return weight.value[None] if isinstance(weight, Shared) else weight
