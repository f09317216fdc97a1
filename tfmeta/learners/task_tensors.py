"""Encoded support and query sets: what a learner reads."""

from typing import NamedTuple

import tensorflow as tf


class Support(NamedTuple):
    """The encoded support set of B tasks. Padding is already cleaned: items and targets there are zero."""

    user: tf.Tensor  # [B, Du] float32
    item: tf.Tensor  # [B, S, Di] float32
    target: tf.Tensor  # [B, S] float32, target units
    length: tf.Tensor  # [B] int32


class Catalogue(NamedTuple):
    """What B tasks choose from, for losses over all items."""

    item: tf.Tensor  # [I, W + 1] float32, `MetaModel.index_items` of all items
    seen: tf.Tensor  # [B, S] int32, places in it that are no choice any more, those of the support; negative for none

    def unseen(self) -> "Catalogue":
        """Returns the catalogue for a loss on the support's own rows, which must then be a choice."""
        return self._replace(seen=-tf.ones_like(self.seen))


class Query(NamedTuple):
    """The encoded candidates of B tasks."""

    user: tf.Tensor  # [B, Du] float32
    item: tf.Tensor  # [B, Q, Di] float32
    catalogue: Catalogue | None = None  # for losses over all items


class Prediction(NamedTuple):
    """What a learner says of the candidates, in target units."""

    output: tf.Tensor  # [B, Q] float32
    variance: tf.Tensor | None = None  # [B, Q] float32, predictive variance, where the learner has one
    median: tf.Tensor | None = None  # [B, Q] float32, of the predictive distribution, where the learner has one
    log_levels: tf.Tensor | None = None  # [B, Q, K] float32, log probabilities of K rating levels, likewise
