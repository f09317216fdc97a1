"""Small changes of a dense stack: what adapts when whole kernels would be too much."""

import keras
import tensorflow as tf

from tfmeta.models.fast_weights import Fast
from tfmeta.models.layers import seeds
from tfmeta.models.layers.fast_dense_stack import Adjust, FastDenseStack, shared_product


class LowRankDeltas(keras.layers.Layer):
    """Per task, a low-rank change of every kernel and a scale and shift of every unit of a dense stack.

    Layer `l` computes `z_l = (1 + g_l) * (h_{l-1} (K_l + A_l D_l) + b_l) + s_l`. `K_l`, `b_l` and `A_l [in, rank]`
    are slow; `D_l [rank, out]`, `g_l` and `s_l [1, out]` are fast and start at zero, where the stack is as it was.

    Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, section 4.1 (its `A` is
    meta-learned here instead of adapted, so that a task's state is `rank * out` instead of `rank * (in + out)`
    numbers a layer); Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018, section 2.1
    (the scale and shift are adapted here instead of predicted).

    Args:
      stack: that is changed.
      rank: of the kernels' changes.
      seed: of the initial values.
    """

    def __init__(self, stack: FastDenseStack, *, rank: int, seed: int, **kwargs):
        super().__init__(name=f"{stack.name}_low_rank", **kwargs)
        self._stack, self._rank = stack, rank
        self._down, self._units = [], []
        for index, (width, units) in enumerate(stack.kernel_shapes):
            key = f"{stack.name}_{index}_down"
            self._down.append(self.add_weight(name=key, shape=(width, rank), initializer=seeds.glorot(seed, key)))
            self._units.append(units)
        self.built = True

    def initial_fast(self, tasks: tf.Tensor) -> Fast:
        """Returns no change for `tasks` tasks (scalar int32): name -> zeros `[B, rank or 1, out]`."""
        return {f"{self._stack.name}_{index}_{part}": tf.zeros([tasks, rows, units], self.variable_dtype)
                for index, units in enumerate(self._units)
                for part, rows in (("delta", self._rank), ("scale", 1), ("shift", 1))}

    def call(self, inputs: tuple[tf.Tensor, ...], fast: Fast) -> tf.Tensor:
        """Applies the changed stack: inputs as the stack takes them -> `[B, N, out]` in the compute dtype."""
        return self._stack(inputs, fast={}, adjust=self._adjust(fast))

    def _adjust(self, fast: Fast) -> Adjust:
        def adjust(index, parts, output):
            delta, scale, shift = (tf.cast(fast[f"{self._stack.name}_{index}_{part}"], self.compute_dtype)
                                   for part in ("delta", "scale", "shift"))
            down = tf.cast(tf.convert_to_tensor(self._down[index]), self.compute_dtype)
            return (1 + scale) * (output + tf.linalg.matmul(shared_product(parts, down), delta)) + shift

        return adjust
