"""Warm-up requests that TensorFlow Serving replays before a version takes traffic."""

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export.sample_requests import as_inputs, draw_items, random_raw
from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.serving import tensor_codec

FILE = "tf_serving_warmup_requests"


def write_warmup(path: str, *, model_name: str, feature_spec: FeatureSpec, item_features: tuple[Feature, ...],
                 catalogue: dict[str, np.ndarray], signatures: tuple[str, ...], default_signature: str,
                 support_width: int, query_width: int = 100, batch_sizes: tuple[int, ...] = (1, 32),
                 seed: int = 0) -> int:
    """Writes a TFRecord of PredictionLog: each signature at each batch size, at the bounded support width.

    Args:
      path: file to write.
      model_name: name written into the requests (a server ignores it).
      feature_spec: of the data.
      item_features: the item features that a request carries.
      catalogue: raw item columns `[I, ...]` to draw from.
      signatures: keys.
      default_signature: the one that `serving_default` is.
      support_width: support rows.
      query_width: candidates.
      batch_sizes: one, and the largest batch that the server's batching allows.
      seed: of the random requests.

    Returns:
      the number of records.
    """
    rng = np.random.default_rng([seed, 0x3A])
    names = [f.name for f in item_features]
    catalogue = {name: catalogue[name] for name in names}
    count = 0
    with tf.io.TFRecordWriter(path) as writer:
        for signature in (*signatures, "serving_default"):
            kind = default_signature if signature == "serving_default" else signature
            for batch in batch_sizes:
                support = {}
                if kind == "adapt_and_score":
                    support = {"support": draw_items(catalogue, (batch, support_width), rng),
                               "label": np.full((batch, support_width), feature_spec.label.maximum, np.float32),
                               "length": np.full(batch, support_width, np.int32)}
                inputs = as_inputs(user=random_raw(feature_spec.user_features, (batch,), rng),
                                   query=draw_items(catalogue, (batch, query_width), rng), **support)
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = model_name, signature
                for name, value in inputs.items():
                    tensor_codec.encode(value, request.inputs[name])
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())
                count += 1
    # The writer does not say where it failed.
    if not os.path.getsize(path):
        raise OSError(f"nothing was written to '{path}'")
    return count
