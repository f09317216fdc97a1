"""TensorFlow's op determinism for a while."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

# TensorFlow's public interface turns it on alone, and without it, it would last as long as the process.
from tensorflow.python.framework import config as _config


@contextlib.contextmanager
def op_determinism(enabled: bool) -> Iterator[None]:
    """Turns op determinism on where `enabled`, and at the end leaves the process as it was.

    What else a process does is slower under it, and operations that draw random numbers without a seed fail.

    Args:
      enabled: False changes nothing.
    """
    change = enabled and not _config.is_op_determinism_enabled()
    if change:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if change:
            _config.disable_op_determinism()
