"""One signature of a loaded model, with the outputs wanted, ready to be called."""

import functools
from collections.abc import Callable

import numpy as np

from tfmeta.serving import tensor_codec
from tfmeta.serving.request_error import RequestError

# Inputs with these prefixes lie along one axis 1: support rows and candidates.
_SHARED_WIDTH = ("support_", "query_")
_EXAMPLES = "examples"


class SignatureCall:
    """Inputs in the order of their tensors, checked once per request, and the call itself.

    Args:
      name: key of the signature.
      signature: its SignatureDef.
      outputs: names of the outputs wanted.
      run: takes one array per input in the order of `tensors` and returns one per output.

    Attributes:
      name, outputs: as given.
      tensors: names of the input tensors, in order.
    """

    def __init__(self, name: str, signature, *, outputs: tuple[str, ...],
                 run: Callable[[list[np.ndarray]], list[np.ndarray]]):
        order = sorted(signature.inputs.items(), key=lambda item: item[1].name)
        self.name, self.outputs, self.run = name, outputs, run
        self.aliases = tuple(alias for alias, _ in order)
        self.tensors = tuple(info.name for _, info in order)
        self._types = tuple((alias, tensor_codec.TYPES[info.dtype][1] if info.dtype in tensor_codec.TYPES else None,
                             tensor_codec.type_name(info.dtype)) for alias, info in order)
        self._dims = tuple(None if info.tensor_shape.unknown_rank else tuple(d.size for d in info.tensor_shape.dim)
                           for _, info in order)
        self._same_width = [group for group in (
            [i for i, (alias, dims) in enumerate(zip(self.aliases, self._dims, strict=True))
             if alias.startswith(prefix) and dims is not None and len(dims) >= 2]
            for prefix in _SHARED_WIDTH) if len(group) > 1]
        # Of shapes that came before.
        self._known_rows = functools.lru_cache(maxsize=1024)(functools.partial(_rows, self._dims, self._same_width))
        self._examples = self.aliases.index(_EXAMPLES) if _EXAMPLES in self.aliases else None

    def values(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Returns the inputs in order.

        Raises:
          RequestError: INVALID_ARGUMENT on a wrong type.
        """
        values = []
        for position, (alias, dtype, name) in enumerate(self._types):
            value = inputs[alias]
            if value.dtype != dtype:
                raise RequestError("INVALID_ARGUMENT",
                                   f"Expects arg[{position}] to be {name} but {_name_of(value.dtype)} is provided")
            values.append(value)
        return values

    def named(self, results: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Returns results by output name."""
        return dict(zip(self.outputs, results, strict=True))

    def rows(self, values: list[np.ndarray]) -> int:
        """Returns the rows that all inputs have in common, 0 for a request that must not be merged with others.

        That is one whose shapes contradict the signature or each other, or whose bytes are no tf.Example: it would
        fail its neighbours, and run alone it gets the graph's own error.
        """
        rows = self._known_rows(tuple([value.shape for value in values]))
        if rows and self._examples is not None and not _are_examples(values[self._examples]):
            return 0
        return rows


def _rows(dims_of: tuple, same_width: list[list[int]], shapes: tuple[tuple[int, ...], ...]) -> int:
    rows = shapes[0][0] if shapes[0] else 0
    for shape, dims in zip(shapes, dims_of, strict=True):
        if not shape or shape[0] != rows:
            return 0
        if dims is not None:
            if len(shape) != len(dims):
                return 0
            for size, required in zip(shape, dims, strict=True):
                if required >= 0 and size != required:
                    return 0
    for group in same_width:
        if len({shapes[position][1] for position in group}) > 1:
            return 0
    return rows


def _are_examples(values: np.ndarray) -> bool:
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    try:
        for value in values.ravel():
            example_pb2.Example.FromString(value)
    except (DecodeError, TypeError):
        return False
    return True


def _name_of(dtype: np.dtype) -> str:
    for _, (name, known, _) in tensor_codec.TYPES.items():
        if dtype == known:
            return name
    return str(dtype)
