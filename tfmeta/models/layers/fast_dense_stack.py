"""Dense layers whose kernels and biases can be given per task."""

import keras
import tensorflow as tf

from tfmeta.models.layers import seeds

Fast = dict[str, tf.Tensor]


class FastDenseStack(keras.layers.Layer):
    """A multi-layer perceptron that reads its weights from a dictionary of fast weights, or its own.

    Layer `l` computes `h_l = activation(h_{l-1} K_l + b_l)`, the last one without activation. With fast weights
    every task has its own `K_l [B, in, out]` and `b_l [B, 1, out]`, and all tasks run in one batched product.

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
        # A side without features has no input. oneDNN aborts the process on a fused product over zero units, so
        # such a stack reads one column of zeros instead.
        self._no_input = input_width == 0
        width = max(1, input_width)
        for index, units in enumerate(widths):
            for part, shape in (("kernel", (width, units)), ("bias", (units,))):
                key = f"{name}_{index}_{part}"
                initializer = seeds.glorot(seed, key) if part == "kernel" else "zeros"
                self._slow[key] = self.add_weight(name=key, shape=shape, initializer=initializer)
            width = units
        self._layers_count = len(widths)
        self.output_width = width
        self.built = True

    def initial_fast(self, tasks: tf.Tensor) -> Fast:
        """Returns the slow weights repeated for each of `tasks` (scalar int32) tasks: name -> `[B, ...]`."""
        fast = {}
        for key, variable in self._slow.items():
            value = tf.convert_to_tensor(variable)
            if value.shape.rank == 1:
                value = value[None, :]
            fast[key] = tf.tile(value[None, :, :], [tasks, 1, 1])
        return fast

    def call(self, inputs: tf.Tensor, fast: Fast | None = None) -> tf.Tensor:
        """Applies the stack.

        Args:
          inputs: `[B, N, input_width]` with fast weights, `[..., input_width]` without.
          fast: this stack's entries of the fast weights; None uses the slow weights.

        Returns:
          `[..., output_width]` in the compute dtype.
        """
        hidden = tf.cast(inputs, self.compute_dtype)
        if self._no_input:
            hidden = tf.zeros(tf.concat([tf.shape(inputs)[:-1], [1]], axis=0), self.compute_dtype)
        weights = fast if fast is not None else self._slow
        for index in range(self._layers_count):
            kernel = tf.cast(tf.convert_to_tensor(weights[f"{self.name}_{index}_kernel"]), self.compute_dtype)
            bias = tf.cast(tf.convert_to_tensor(weights[f"{self.name}_{index}_bias"]), self.compute_dtype)
            hidden = tf.linalg.matmul(hidden, kernel) if fast is not None else tf.tensordot(hidden, kernel, 1)
            hidden = hidden + bias
            if index < self._layers_count - 1:
                hidden = self._activation(hidden)
        return hidden
