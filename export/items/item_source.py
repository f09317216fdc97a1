"""How item inputs of a request become item representations."""

import abc

import tensorflow as tf

from tfmeta.data.feature import Feature


class ItemSource(tf.Module, abc.ABC):
    """Interface of the two modes of `--item-features`.

    Attributes:
      mode: the option's value.
      features: the item features that a request carries, the item id first.
    """

    mode: str
    features: tuple[Feature, ...]

    @abc.abstractmethod
    def encode(self, raw: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Encodes items of a request; no value can make it fail.

        Args:
          raw: feature name -> `[B, N, ...]`.

        Returns:
          `[B, N, Di]` float32, and bool `[B, N]` where a non-finite feature was replaced (None if it cannot be).
        """
