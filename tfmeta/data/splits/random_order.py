"""Random orders that depend on ids and a seed alone: not on row order, process, machine or the other ids."""

import numpy as np
import pandas as pd

_GOLDEN = 0x9E3779B97F4A7C15


def id_hash(ids) -> np.ndarray:
    """Returns a `[N]` uint64 hash of ids; an id hashes alike as an integer and as its decimal string."""
    text = np.asarray([str(i) for i in np.asarray(ids).tolist()], dtype=object)
    if not len(text):
        return np.zeros(0, np.uint64)
    return pd.util.hash_array(text, categorize=False)


def random_key(hashes: np.ndarray, *, seed: int, stream: int) -> np.ndarray:
    """Returns `[N]` uint64 uniform keys: a function of each hash, the seed and the stream number."""
    start = np.asarray([(seed * 0x2545F4914F6CDD1D + (stream + 1) * _GOLDEN) % 2**64], np.uint64)
    return _mix(hashes.astype(np.uint64) ^ _mix(start))


def pair_hash(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the `[N]` uint64 hash of ordered pairs of hashes."""
    return _mix(first.astype(np.uint64)) + np.asarray([_GOLDEN], np.uint64) * second.astype(np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    # The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014); arrays wrap modulo 2^64.
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
