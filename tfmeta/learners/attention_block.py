"""The block that set transformers are made of."""

import keras
import tensorflow as tf

from tfmeta.models.layers import seeds


class AttentionBlock(keras.layers.Layer):
    """Lets the rows of one set read those of another.

        MAB(X, Y) = LN(H + rFF(H)),   H = LN(X + Multihead(X, Y, Y)),   rFF(H) = relu(H W_1 + b_1) W_2 + b_2

    Source: Lee et al., "Set Transformer: A Framework for Attention-based Permutation-Invariant Neural Networks", ICML
    2019, section 3.1; with Y = X it is the set attention block. Deviation: the row-wise network has two layers.

    Args:
      units: width of the rows of X, of the output and of the row-wise network.
      heads: attention heads; `units` is a multiple of it.
      source_width: width of the rows of Y.
      seed: of the initial values.
      name: prefix of the weights' names.
    """

    def __init__(self, units: int, *, heads: int, source_width: int, seed: int, name: str, **kwargs):
        super().__init__(name=name, **kwargs)
        self.attention = keras.layers.MultiHeadAttention(heads, units // heads, output_shape=units,
                                                         name=f"{name}_attention")
        self.attention.build((None, None, units), (None, None, source_width))
        self.hidden = keras.layers.Dense(units, activation="relu", name=f"{name}_hidden")
        self.hidden.build((None, None, units))
        self.output_layer = keras.layers.Dense(units, name=f"{name}_output")
        self.output_layer.build((None, None, units))
        self.norms = [keras.layers.LayerNormalization(name=f"{name}_norm_{i}") for i in range(2)]
        for norm in self.norms:
            norm.build((None, None, units))
        _draw_kernels(self, seed)
        self.built = True

    def call(self, rows: tf.Tensor, source: tf.Tensor, *, length: tf.Tensor | None = None) -> tf.Tensor:
        """Applies the block.

        Args:
          rows: X, `[B, N, units]`.
          source: Y, `[B, M, source_width]`.
          length: `[B]` int32, real rows of Y; None for all. With length 0 every row is read, padding too.

        Returns:
          `[B, N, units]`.
        """
        mask = None if length is None else tf.sequence_mask(length, tf.shape(source)[1])[:, None, :]
        rows = self.norms[0](rows + self.attention(rows, source, attention_mask=mask))
        return self.norms[1](rows + self.output_layer(self.hidden(rows)))


def _draw_kernels(layer: keras.layers.Layer, seed: int) -> None:
    """Gives each kernel a draw of its own: Keras would draw those of one attention layer alike from one seed."""
    for index, variable in enumerate(layer.trainable_weights):
        shape = tuple(variable.shape)
        if len(shape) < 2 or variable.path.split("/")[-1] != "kernel":
            continue
        # [in, heads, width] reads rows, [heads, width, out] writes them.
        flat = shape if len(shape) == 2 else (
            (shape[0] * shape[1], shape[2]) if "attention_output" in variable.path else
            (shape[0], shape[1] * shape[2]))
        variable.assign(tf.reshape(seeds.glorot(seed, f"{layer.name}/{index}")(flat, dtype=variable.dtype), shape))
