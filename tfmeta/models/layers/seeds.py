"""Seeded initial values that do not depend on the order in which layers are built."""

import zlib

import keras


def glorot(seed: int, name: str) -> keras.initializers.Initializer:
    """Returns a Glorot-uniform initialiser whose draw is a function of (seed, name) alone."""
    return keras.initializers.GlorotUniform(seed=zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF)


def normal(seed: int, name: str, stddev: float) -> keras.initializers.Initializer:
    """Returns a normal initialiser whose draw is a function of (seed, name) alone."""
    return keras.initializers.RandomNormal(stddev=stddev,
                                           seed=zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF)
