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
    padded = np.full((len(length), max(1, int(length.max(initial=0)))), fill, dtype)
    padded[np.arange(padded.shape[1])[None, :] < length[:, None]] = values
    return padded
