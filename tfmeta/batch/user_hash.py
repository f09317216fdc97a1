"""Shares users out among the shards."""

import numpy as np
import pandas as pd
import pyarrow as pa

from tfmeta.batch.latest_rows import codes_of


def shard_of(users: pa.Array | pa.ChunkedArray, shards: int) -> np.ndarray:
    """Returns `[n]` int64, 0 to `shards` - 1: the same for the same id in every process and on every machine.

    Args:
      users: ids `[n]`, strings or int64.
      shards: how many there are.
    """
    return (hash_of(users) % np.uint64(shards)).astype(np.int64)


def hash_of(users: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Returns `[n]` uint64, likewise."""
    if pa.types.is_int64(users.type):
        return _mix(users.to_numpy().view(np.uint64))
    codes, distinct = codes_of(users)
    return pd.util.hash_array(distinct.to_numpy(zero_copy_only=False), categorize=False)[codes]


def may_exceed(hashed: np.ndarray, bound: int) -> bool:
    """Whether some user may have more than `bound` of the rows; a False is certain."""
    return len(hashed) > bound and int(np.bincount((hashed >> np.uint64(44)).astype(np.int64)).max()) > bound


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al., 2014): consecutive ids spread over all shards."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
