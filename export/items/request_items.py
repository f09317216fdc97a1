"""Items whose features travel with the request."""

import tensorflow as tf

from export.items.item_source import ItemSource
from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.models.recommender import Recommender


class RequestItems(ItemSource):
    """Encodes raw item features in the graph: for items that no catalogue knows at export.

    Args:
      recommender: its item encoder is used.
    """

    mode = "request"

    def __init__(self, recommender: Recommender):
        super().__init__(name="request_items")
        spec = recommender.feature_spec
        self.features = (spec.item_id, *spec.item_features)
        self._transform = FeatureTransform(self.features)
        self._encode = recommender.encode_item

    def encode(self, raw: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor | None]:
        return self._encode(self._transform(raw)), self._transform.non_finite(raw, leading_rank=2)
