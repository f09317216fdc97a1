"""Embedding model in the style of MeLU."""

from typing import ClassVar

import keras
import tensorflow as tf

from tfmeta.config import require
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.models.fast_weights import Fast
from tfmeta.models.item_id_embedding import ItemIdEmbedding
from tfmeta.models.layers.fast_dense_stack import FastDenseStack
from tfmeta.models.layers.feature_encoder import FeatureEncoder
from tfmeta.models.meta_model import MetaModel


@keras.saving.register_keras_serializable("tfmeta")
class EmbeddingModel(MetaModel):
    """Concatenated feature embeddings of user and item through dense decision layers to one number.

    Source: Lee et al., "MeLU: Meta-Learned User Preference Estimator for Cold-Start Recommendation", KDD 2019,
    section 3.1. Deviations: numeric and vector features are allowed (one affine projection a side), and an item-id
    embedding may be added, zero for items out of the training vocabulary; both are absent on MeLU's own features
    with `use_item_id=False`.

    Scopes:
      `head`: the decision layers adapt (MeLU's local update).
      `all`: the decision layers and the projections of numeric and vector features (embedding tables never do).

    Args:
      feature_spec: of the data.
      scope: `head` or `all`.
      seed: of the initial values.
      embedding_dim: width of each feature's embedding.
      units: hidden units of the decision layers.
      use_item_id: concatenate an item-id embedding.
    """

    SCOPES: ClassVar[tuple[str, ...]] = ("head", "all")

    def __init__(self, feature_spec: FeatureSpec, *, scope: str = "head", seed: int = 0, embedding_dim: int = 32,
                 units: tuple[int, ...] = (64, 64), use_item_id: bool = False, **kwargs):
        super().__init__(feature_spec, scope=scope, seed=seed, name="embedding", **kwargs)
        require(embedding_dim >= 1, "model.embedding_dim", "at least 1", embedding_dim)
        self._config = {"embedding_dim": embedding_dim, "units": list(units), "use_item_id": use_item_id}
        self.embedding_dim = embedding_dim
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
        self.decision = FastDenseStack((*units, 1), input_width=self.widths["user"] + self.widths["item"], seed=seed,
                                       name="decision")
        self.built = True

    def encode_user(self, features, *, tasks):
        return self._encode("user", features, tf.reshape(tasks, [1]), [])

    def encode_item(self, features):
        id_name = self.feature_spec.item_id.name
        ids = features[id_name]
        by_id = [self.item_ids(ids)] if self.item_ids is not None else []
        return self._encode("item", {k: v for k, v in features.items() if k != id_name}, tf.shape(ids), by_id)

    def _encode(self, side, features, lead, extra):
        # Order: [extra, embeddings, dense numbers or their projection]; `all` projects with fast weights later.
        encoder = self.encoders[side]
        encoded = encoder(features, lead=lead)
        if side in self.projections and self.scope == "head":
            dense = self.projections[side](encoded[..., encoder.embedded_width:])
            encoded = tf.concat([encoded[..., :encoder.embedded_width], dense], axis=-1)
        return tf.cast(tf.concat([*extra, encoded], axis=-1), self.variable_dtype)

    def initial_fast(self, user):
        fast = self.decision.initial_fast()
        if self.scope == "all":
            for projection in self.projections.values():
                fast |= projection.initial_fast()
        return fast

    @property
    def layered(self):
        return True

    def apply(self, fast: Fast, user, item, *, record=None):
        parts = (*self._parts("user", fast, user[:, None, :], record), *self._parts("item", fast, item, record))
        # Projections that adapt change the decision layers' inputs.
        output = self.decision(parts, fast=fast, constant=self.scope == "head" or not self.projections, record=record)
        return tf.cast(output, self.variable_dtype)[..., 0]

    def _parts(self, side: str, fast: Fast, encoded: tf.Tensor, record) -> tuple[tf.Tensor, ...]:
        if self.scope == "head" or side not in self.projections:
            return (encoded,)
        width = self.encoders[side].dense_width
        dense = self.projections[side](encoded[..., -width:], fast=fast, record=record)
        return encoded[..., :-width], dense

    def get_config(self):
        return dict(self._config)
