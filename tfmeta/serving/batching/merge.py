"""Merging the inputs of several requests and splitting their outputs, as TensorFlow Serving does it."""

import itertools
from collections.abc import Sequence

import numpy as np

from tfmeta.serving.request_error import RequestError


def merge(requests: Sequence[Sequence[np.ndarray]], *, rows: int, pad: bool,
          tensors: Sequence[str]) -> list[np.ndarray]:
    """Concatenates requests along axis 0.

    Args:
      requests: per request one array `[b, ...]` per input.
      rows: of the merged batch; beyond those of the requests the last request's first row is repeated.
      pad: widen arrays of differing width to the widest, with the array's own first element.
      tensors: name of each input, for messages.

    Returns:
      One array `[rows, ...]` per input.

    Raises:
      RequestError: FAILED_PRECONDITION if arrays of one input differ in width and `pad` is not set.
    """
    return [_merge_input(values, rows, pad, tensor)
            for values, tensor in zip(zip(*requests, strict=True), tensors, strict=True)]


def _merge_input(values: Sequence[np.ndarray], rows: int, pad: bool, tensor: str) -> np.ndarray:
    first = values[0].shape[1:]
    surplus = rows - sum(len(v) for v in values)
    if all(v.shape[1:] == first for v in values):
        if surplus:
            values = [*values, np.repeat(values[-1][:1], surplus, axis=0)]
        return np.concatenate(values) if len(values) > 1 else values[0]
    if not pad or len({v.ndim for v in values}) > 1:
        raise RequestError("FAILED_PRECONDITION",
                           f"Tensors with name '{tensor}' from different tasks have different shapes and padding is "
                           "turned off.Set pad_variable_length_inputs to true, or ensure that all tensors with the "
                           "same namehave equal dimensions starting with the first dim.")
    merged = np.empty((rows, *(max(sizes) for sizes in zip(*(v.shape[1:] for v in values), strict=True))),
                      values[0].dtype)
    start = 0
    for value in values:
        part = merged[start:start + len(value)]
        if value.shape[1:] != merged.shape[1:]:
            part[...] = value.flat[0]
        part[(slice(None), *map(slice, value.shape[1:]))] = value
        start += len(value)
    if surplus:
        merged[start:] = merged[start - len(values[-1])]
    return merged


def split(results: Sequence[np.ndarray], sizes: Sequence[int], *, rows: int) -> list[list[np.ndarray]]:
    """Splits outputs along axis 0, as views.

    Args:
      results: one array `[rows, ...]` per output.
      sizes: rows of each request, in order; what is left over is dropped.
      rows: of the merged batch.

    Returns:
      Per request one array per output.

    Raises:
      RequestError: FAILED_PRECONDITION if an output does not have one row per row of the batch.
    """
    for value in results:
        if not value.ndim:
            raise RequestError("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions")
        if len(value) != rows:
            raise RequestError("FAILED_PRECONDITION",
                               "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                               "sizes of the input tensors")
    ends = list(itertools.accumulate(sizes, initial=0))
    return [[value[start:end] for value in results] for start, end in itertools.pairwise(ends)]
