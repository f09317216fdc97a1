"""What every signature is built from."""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from export.items.item_source import ItemSource
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.models.recommender import Recommender


@dataclasses.dataclass(frozen=True)
class SignatureContext:
    """The parts of an exported graph.

    Attributes:
      recommender: with its trained weights.
      users: transform of the raw user features.
      items: what the item inputs are and how they become representations.
      support_bound: support rows kept per task, the last ones.
      fingerprint: of weights, feature specification, model and learner: what a user state belongs to.
      documents: texts by name that the signature `metadata` answers with.
      retrieval: which models have the signatures of retrieval, see `export.retrieval.retriever.is_available`.
      top_k: items that they return.
      diversity: weight of maximal marginal relevance in them, 0 to 1.
    """

    recommender: Recommender
    users: FeatureTransform
    items: ItemSource
    support_bound: int
    fingerprint: str = ""
    documents: dict[str, str] = dataclasses.field(default_factory=dict)
    retrieval: str = "auto"
    top_k: int = 100
    diversity: float = 0.0

    @property
    def feature_spec(self) -> FeatureSpec:
        return self.recommender.feature_spec

    def encode_user(self, raw: dict[str, tf.Tensor], tasks: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns (`[B, Du]`, bool `[B]` or None: a non-finite feature was replaced)."""
        return self.recommender.encode_user(self.users(raw), tasks=tasks), self.users.non_finite(raw, leading_rank=1)

    @functools.cached_property
    def adapt_and_score(self) -> Callable:
        """`Recommender.adapt_and_score` as a function of the graph: traced once for the signatures that share it."""
        return tf.function(self.recommender.adapt_and_score, autograph=False)

    @functools.cached_property
    def adapt(self) -> Callable:
        """`Recommender.adapt`, likewise."""
        return tf.function(self.recommender.adapt, autograph=False)
