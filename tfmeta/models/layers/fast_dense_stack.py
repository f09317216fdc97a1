"""Dense layers whose kernels and biases can be given per task."""

from collections.abc import Callable

import keras
import tensorflow as tf

from tfmeta.models.fast_weights import Fast, FastWeight, LowRank, Shared, concatenate
from tfmeta.models.layers import seeds
from tfmeta.models.layers.dense_record import DenseCall, DenseRecord
from tfmeta.models.layers.task_products import add_bias, single_output, task_product

Parts = tuple[tf.Tensor, ...]
# (index of a layer, its inputs, its output before the activation) -> another output.
Adjust = Callable[[int, Parts, tf.Tensor], tf.Tensor]


class FastDenseStack(keras.layers.Layer):
    """A multi-layer perceptron that reads its weights from a dictionary of fast weights, or its own.

    Layer `l` computes `h_l = activation(h_{l-1} K_l + b_l)`, the last one without activation. With fast weights
    every task has its own `K_l [B, in, out]` and `b_l [B, 1, out]`, and all tasks run in one batched product; see
    `fast_weights` for the forms that make this cheap.

    Args:
      widths: units of each layer, the last one the output.
      input_width: units of the input.
      activation: name of a Keras activation for the hidden layers.
      seed: of the initial kernels.
      name: prefix of the weights' names.
    """

    def __init__(self, widths: tuple[int, ...], *, input_width: int, activation: str = "relu", seed: int,
                 name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        self._activation = keras.activations.get(activation)
        self._slow = {}
        width = input_width
        for index, units in enumerate(widths):
            for part, shape in (("kernel", (width, units)), ("bias", (units,))):
                key = f"{name}_{index}_{part}"
                initializer = seeds.glorot(seed, key) if part == "kernel" else "zeros"
                self._slow[key] = self.add_weight(name=key, shape=shape, initializer=initializer)
            width = units
        self._layers_count = len(widths)
        self.kernel_shapes = list(zip((input_width, *widths[:-1]), widths, strict=True))
        self.output_width = width
        self.built = True

    def initial_fast(self, layers: slice = slice(None)) -> Fast:
        """Returns the slow weights of the chosen layers as fast weights that all tasks share."""
        chosen = {f"{self.name}_{index}" for index in range(self._layers_count)[layers]}
        values = {key: tf.convert_to_tensor(variable) for key, variable in self._slow.items()
                  if key.rpartition("_")[0] in chosen}
        return {key: Shared(v if v.shape.rank == 2 else v[None, :]) for key, v in values.items()}

    def call(self, inputs: tf.Tensor | Parts, fast: Fast | None = None, *, constant: bool = True,
             record: DenseRecord | None = None, adjust: Adjust | None = None) -> tf.Tensor:
        """Applies the stack.

        Args:
          inputs: `[B, N, input_width]`, or its parts along the last axis, `[B, N or 1, width]` each: a part with
            one row (the user's) stands for N equal rows; the last part has N rows. Without fast weights, one tensor
            of any leading shape.
          fast: fast weights, this stack's among them; a layer that has none there uses its slow weights. None uses
            the slow weights throughout.
          constant: whether the inputs depend on no fast weight.
          record: the inner loop's, when it differentiates this call.
          adjust: changes the outputs of the layers, for fast weights that are no kernels.

        Returns:
          `[B, N, output_width]` in the compute dtype.
        """
        if fast is None:
            return self._plain(tf.cast(inputs, self.compute_dtype))
        return self._run(inputs if isinstance(inputs, tuple) else (inputs,), fast, range(self._layers_count),
                         constant=constant, record=record, adjust=adjust)

    def hidden(self, inputs: Parts) -> tf.Tensor:
        """Applies all layers but the last, with slow weights: what the last layer is linear in, `[B, N, width]`."""
        parts = tuple(tf.cast(p, self.compute_dtype) for p in inputs)
        if self._layers_count == 1:
            return concatenate(parts, rows=tf.shape(parts[-1])[1])
        return self._activation(self._run(parts, {}, range(self._layers_count - 1)))

    def _run(self, parts: Parts, fast: Fast, layers: range, *, constant: bool = True,
             record: DenseRecord | None = None, adjust: Adjust | None = None) -> tf.Tensor:
        """Applies some layers, the last one of them without activation."""
        for index in layers:
            name = f"{self.name}_{index}"
            adapts = f"{name}_kernel" in fast
            weights = fast if adapts else self.initial_fast(slice(index, index + 1))
            kernel, bias = weights[f"{name}_kernel"], weights[f"{name}_bias"]
            parts = tuple(tf.cast(p, self.compute_dtype) for p in parts)
            kept = record if constant else None
            output = add_bias(self._product(name, parts, kernel, kept), self._bias(bias))
            if record is not None and adapts:
                record.add(name, DenseCall(parts, output, kept is not None))
            if adjust is not None:
                output = adjust(index, parts, output)
            # What follows a layer that adapts is no longer the same in every step.
            constant = constant and not adapts and adjust is None
            parts = (output if index == layers[-1] else self._activation(output),)
        return parts[0]

    def _plain(self, hidden: tf.Tensor) -> tf.Tensor:
        for index in range(self._layers_count):
            kernel, bias = (tf.cast(tf.convert_to_tensor(self._slow[f"{self.name}_{index}_{part}"]), self.compute_dtype)
                            for part in ("kernel", "bias"))
            hidden = _leading_product(hidden, kernel) + bias
            if index < self._layers_count - 1:
                hidden = self._activation(hidden)
        return hidden

    def _product(self, name: str, parts: Parts, kernel: FastWeight, record: DenseRecord | None) -> tf.Tensor:
        def constant(what, compute):
            return compute() if record is None else record.constant(f"{name}/{what}", compute)

        if isinstance(kernel, Shared):
            return constant("base", lambda: shared_product(parts, tf.cast(kernel.value, self.compute_dtype)))
        if isinstance(kernel, LowRank):
            base = constant("base", lambda: shared_product(parts, tf.cast(kernel.base, self.compute_dtype)))
            gram = constant("gram", lambda: inner_products(parts, kernel.inputs))
            return base + task_product(gram, tf.cast(kernel.coefficients, self.compute_dtype))
        inputs = concatenate(parts, rows=tf.shape(parts[-1])[1])
        if inputs.shape[-1] == 0:
            return _nothing(inputs, kernel.shape[-1])
        kernel = tf.cast(kernel, self.compute_dtype)
        return single_output(inputs, kernel) if kernel.shape[-1] == 1 else task_product(inputs, kernel)

    def _bias(self, bias: FastWeight) -> tf.Tensor:
        return tf.cast(bias.value[None] if isinstance(bias, Shared) else bias, self.compute_dtype)


def inner_products(left: Parts, right: Parts) -> tf.Tensor:
    """Inner products of the rows of two inputs given by parts: `[B, N, ...]`, `[B, S, ...]` -> `[B, N, S]`.

    Of parts with one row a task the products are `[B, 1, 1]` and broadcast.
    """
    return _sum([tf.linalg.matmul(a, tf.cast(b, a.dtype), transpose_b=True)
                 for a, b in zip(left, right, strict=True)])


def shared_product(parts: Parts, kernel: tf.Tensor) -> tf.Tensor:
    """Multiplies all tasks' rows with one kernel `[in, out]` in one product a part: `[B, N, out]`."""
    kernels = tf.split(kernel, [p.shape[-1] for p in parts]) if len(parts) > 1 else [kernel]
    return _sum([_leading_product(p, k) for p, k in zip(parts, kernels, strict=True)])


def _leading_product(inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """`[..., in]` times `[in, out]` -> `[..., out]`, as one product."""
    if inputs.shape[-1] == 0:
        return _nothing(inputs, kernel.shape[-1])
    lead = tf.shape(inputs)[:-1]
    flat = tf.linalg.matmul(tf.reshape(inputs, [-1, inputs.shape[-1]]), kernel)
    return tf.ensure_shape(tf.reshape(flat, tf.concat([lead, [kernel.shape[-1]]], axis=0)),
                           inputs.shape[:-1].concatenate([kernel.shape[-1]]))


def _nothing(inputs: tf.Tensor, units: int) -> tf.Tensor:
    # A side without features has no inputs at all; oneDNN ends the process on a fused product over none.
    return tf.zeros(tf.concat([tf.shape(inputs)[:-1], [units]], axis=0), inputs.dtype)


def _sum(terms: list[tf.Tensor]) -> tf.Tensor:
    """Adds terms that may broadcast."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
