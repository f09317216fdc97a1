"""Lists of different lengths as padded arrays."""

import numpy as np


def pad(values: np.ndarray, length: np.ndarray, *, fill, dtype) -> np.ndarray:
    """Pads consecutive segments on the right.

    Args:
      values: `[sum(length)]`, segment after segment.
      length: `[T]` integers.
      fill: value of the padding.
      dtype: of the result.

    Returns:
      `[T, max(1, longest)]`.
    """
    length = np.asarray(length, np.int64)
    width = max(1, int(length.max(initial=0)))
    padded = np.full((len(length), width), fill, dtype)
    # Each value's own place: a mask of the padded shape would cost more than the lists where one of them is long.
    start = np.arange(len(length)) * width - (np.cumsum(length) - length)
    padded.reshape(-1)[np.repeat(start, length) + np.arange(length.sum())] = values
    return padded
