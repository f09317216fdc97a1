"""Embedding model in the style of MeLU."""

from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ConfigError
from tfmeta.models.fast_weights import Fast
from tfmeta.models.item_id_embedding import ItemIdEmbedding
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.layers.feature_encoder import FeatureEncoder
from tfmeta.models.layers.low_rank_deltas import LowRankDeltas
from tfmeta.models.meta_model import MetaModel

# Scope -> which decision layers adapt; all of them where it is not here.
_LAYERS = {"last_layer": slice(-1, None), "body": slice(None, -1)}


@keras.saving.register_keras_serializable("tfmeta")
class EmbeddingModel(MetaModel):
    """Concatenated feature embeddings of user and item through dense decision layers to one number.

    Source: Lee et al., "MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation", KDD 2019,
    section 3.1. Deviations: numeric and vector features are allowed (one affine projection a side), and an item-id
    embedding may be added, zero for items out of the training vocabulary; both are absent on MeLU's own features
    with `use_item_id=False`.

    Scopes:
      `head`: the decision layers adapt (MeLU's local update).
      `last_layer`: the last decision layer alone; what precedes it is its features, so closed-form heads apply.
      `body`: all dense kernels but the last.
      `low_rank`: changes of the decision layers of few numbers, see `LowRankDeltas`.
      `context`: a vector that the decision layers read beside user and item, zero before adaptation.
      `all`: the decision layers and the projections of numeric and vector features (embedding tables never do).

    Args:
      feature_spec: of the data.
      scope: one of those above.
      seed: of the initial values.
      embedding_dim: width of each feature's embedding.
      units: hidden units of the decision layers.
      use_item_id: concatenate an item-id embedding.
      rank: of the kernels' changes in scope `low_rank`.
      context_dim: width of the vector in scope `context`.

    Raises:
      ConfigError: if a value is out of range, or nothing precedes the last layer in scope `body`.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("head", "last_layer", "body", "low_rank", "context", "all")

    def __init__(self, feature_spec: FeatureSpec, *, scope: str = "head", seed: int = 0, embedding_dim: int = 32,
                 units: tuple[int, ...] = (64, 64), use_item_id: bool = False, rank: int = 4, context_dim: int = 8,
                 **kwargs):
        super().__init__(feature_spec, scope=scope, seed=seed, name="embedding", **kwargs)
        require(embedding_dim >= 1, "model.embedding_dim", "at least 1", embedding_dim)
        require(rank >= 1, "model.rank", "at least 1", rank)
        require(context_dim >= 1, "model.context_dim", "at least 1", context_dim)
        self._config = {"embedding_dim": embedding_dim, "units": list(units), "use_item_id": use_item_id,
                        "rank": rank, "context_dim": context_dim}
        self.embedding_dim, self.context_dim = embedding_dim, context_dim if scope == "context" else 0
        self.encoders, self.projections, self.widths = {}, {}, {}
        for side, features in (("user", feature_spec.user_features), ("item", feature_spec.item_features)):
            encoder = FeatureEncoder(features, embedding_dim=embedding_dim, seed=seed, prefix=side)
            self.encoders[side] = encoder
            width = encoder.embedded_width
            if encoder.dense_width:
                self.projections[side] = FastDenseStack((embedding_dim,), input_width=encoder.dense_width, seed=seed,
                                                        name=f"{side}_projection")
                width += embedding_dim
            self.widths[side] = width
        self.item_ids = (ItemIdEmbedding(feature_spec.item_id, width=embedding_dim, seed=seed)
                         if use_item_id else None)
        self.widths["item"] += embedding_dim if use_item_id else 0
        if scope == "body" and not (units or self.projections):
            raise ConfigError("'learner.scope' body requires a model with hidden layers, received 'model.units' "
                              "without any.")
        self.decision = FastDenseStack(
            (*units, 1), input_width=self.context_dim + self.widths["user"] + self.widths["item"], seed=seed,
            name="decision")
        self.deltas = LowRankDeltas(self.decision, rank=rank, seed=seed) if scope == "low_rank" else None
        self.built = True

    @property
    def _projects(self) -> bool:
        """Whether the projections of numbers adapt."""
        return self.scope in ("all", "body") and bool(self.projections)

    def encode_user(self, features, *, tasks):
        return self._encode("user", features, tf.reshape(tasks, [1]), [])

    def encode_item(self, features):
        id_name = self.feature_spec.item_id.name
        ids = features[id_name]
        by_id = [self.item_ids(ids)] if self.item_ids is not None else []
        return self._encode("item", {k: v for k, v in features.items() if k != id_name}, tf.shape(ids), by_id)

    def _encode(self, side, features, lead, extra):
        # Order: [extra, embeddings, dense numbers or their projection]; some scopes project with fast weights later.
        encoder = self.encoders[side]
        encoded = encoder(features, lead=lead)
        if side in self.projections and not self._projects:
            dense = self.projections[side](encoded[..., encoder.embedded_width:])
            encoded = tf.concat([encoded[..., :encoder.embedded_width], dense], axis=-1)
        return tf.cast(tf.concat([*extra, encoded], axis=-1), self.variable_dtype)

    def initial_fast(self, user):
        if self.scope == "low_rank":
            return self.deltas.initial_fast(tf.shape(user)[0])
        if self.scope == "context":
            return {"context": tf.zeros([tf.shape(user)[0], self.context_dim], self.variable_dtype)}
        fast = self.decision.initial_fast(_LAYERS.get(self.scope, slice(None)))
        if self._projects:
            for projection in self.projections.values():
                fast |= projection.initial_fast()
        return fast

    @property
    def static_shapes(self):
        return self.item_ids is None and not any(encoder.lists for encoder in self.encoders.values())

    @property
    def layered(self):
        return self.scope not in ("low_rank", "context")

    def apply(self, fast: Fast, user, item, *, record=None):
        parts = (*self._parts("user", fast, user[:, None, :], record), *self._parts("item", fast, item, record))
        if self.scope == "low_rank":
            output = self.deltas(parts, fast=fast)
        elif self.scope == "context":
            output = self.decision((fast["context"][:, None, :], *parts), fast={}, constant=False)
        else:
            # Projections that adapt change the decision layers' inputs.
            output = self.decision(parts, fast=fast, constant=not self._projects, record=record)
        return tf.cast(output, self.variable_dtype)[..., 0]

    def _parts(self, side: str, fast: Fast, encoded: tf.Tensor, record) -> tuple[tf.Tensor, ...]:
        if not self._projects or side not in self.projections:
            return (encoded,)
        width = self.encoders[side].dense_width
        dense = self.projections[side](encoded[..., -width:], fast=fast, record=record)
        return encoded[..., :-width], dense

    @classmethod
    def has_linear_head(cls, scope, options):
        return scope == "last_layer"

    def linear(self, user, item):
        if not self.has_linear_head(self.scope, self._config):
            return super().linear(user, item)
        hidden = tf.cast(self.decision.hidden((user[:, None, :], item)), self.variable_dtype)
        return tf.concat([hidden, tf.ones_like(hidden[..., :1])], axis=-1), tf.zeros_like(hidden[..., 0])

    def linear_prior(self, user):
        weights = tf.concat([w.value for w in self.decision.initial_fast(_LAYERS["last_layer"]).values()], axis=0)
        return tf.tile(tf.transpose(weights), [tf.shape(user)[0], 1])

    def get_config(self):
        return dict(self._config)
