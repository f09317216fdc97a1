"""What the inner loop sees of the dense layers that a model runs."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class DenseCall(NamedTuple):
    """One dense layer in one forward pass."""

    inputs: tuple[tf.Tensor, ...]  # parts [B, N or 1, width]
    output: tf.Tensor  # [B, N, out], before the activation
    constant: bool  # whether the inputs depend on no fast weight


class DenseRecord:
    """Collects the dense layers of a forward pass, so that their weights' gradients follow from theirs.

    With `z = x K + b`, the gradient of the loss by K is `x^T dz` and by b the sum of `dz` over rows: only `dz` needs
    differentiation. Products of inputs that no step changes are kept between the steps.

    Attributes:
      calls: layer name -> its call in the present step.
    """

    def __init__(self):
        self.calls: dict[str, DenseCall] = {}
        self._tape: tf.GradientTape | None = None
        self._constants: dict[str, tf.Tensor] = {}

    def start(self, tape: tf.GradientTape) -> None:
        """Begins a step under its tape."""
        self.calls, self._tape = {}, tape

    def stop(self) -> None:
        """Ends the step; its calls stay."""
        self._tape = None

    def add(self, name: str, call: DenseCall) -> None:
        """Notes a layer and makes its output something to differentiate by."""
        self._tape.watch(call.output)
        self.calls[name] = call

    def constant(self, name: str, compute: Callable[[], tf.Tensor]) -> tf.Tensor:
        """Returns what `compute` gave in the first step."""
        if name not in self._constants:
            # The inner gradient ends at the layer's output; what leads to it is the outer loop's business.
            with self._tape.stop_recording() if self._tape is not None else contextlib.nullcontext():
                self._constants[name] = compute()
        return self._constants[name]
