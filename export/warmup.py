"""Warm-up requests that TensorFlow Serving replays before a version takes traffic.

One record for every signature, allowed batch size and support width (1 and the bound). Which values a request has is
of no importance for a warm-up, which tensors are made is; so every record but one a signature repeats one value,
which a TensorProto writes once whatever the shape, and the file stays small.
"""

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export.sample_requests import draw_items, random_raw
from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.errors import ExportError
from tfmeta.serving import tensor_codec
from tfmeta.serving.input_names import input_names

FILE = "tf_serving_warmup_requests"
# Those of serving_config/batching_parameters.txt. The server refuses more than MAX_RECORDS.
BATCH_SIZES = (1, 4, 8, 16)
MAX_RECORDS = 1000
# A record with values of their own may have this many bytes; beyond, it repeats one value, too.
_VARIED_BYTES = 1 << 16
# Signatures on tf.Example -> the signature whose inputs the examples carry.
_EXAMPLES = "_examples"
# Lengths follow from an example's own lists.
_NO_EXAMPLE_KEYS = ("support_length", "exclude_length")


def write_warmup(path: str, *, model_name: str, signatures: dict[str, dict], feature_spec: FeatureSpec,
                 item_features: tuple[Feature, ...], catalogue: dict[str, np.ndarray], support_width: int,
                 state_model: str, query_width: int = 100, batch_sizes: tuple[int, ...] = BATCH_SIZES,
                 seed: int = 0) -> int:
    """Writes a TFRecord of PredictionLog.

    Args:
      path: file to write.
      model_name: name written into the requests (a server ignores it).
      signatures: key -> {"inputs": {name: {"dtype", "shape"}}, ...}, `serving_default` among them.
      feature_spec: of the data.
      item_features: the item features that a request carries.
      catalogue: raw item columns `[I, ...]` to draw from.
      support_width: support rows at most.
      state_model: fingerprint of the model, for user states.
      query_width: candidates.
      batch_sizes: those that the server's batching makes.
      seed: of the random requests.

    Returns:
      the number of records.

    Raises:
      ExportError: if there would be more records than a server takes, or nobody knows how to fill an input.
    """
    state = signatures.get("adapt", {}).get("outputs", {}).get("user_state", {"shape": [None, 0]})
    source = _Requests(feature_spec, item_features, {f.name: catalogue[f.name] for f in item_features},
                       query_width=query_width, state_model=state_model, state_width=state["shape"][1],
                       rng=np.random.default_rng([seed, 0x3A]))
    count = 0
    with tf.io.TFRecordWriter(path) as writer:
        for key, description in signatures.items():
            shapes = {name: info["shape"] for name, info in description["inputs"].items()}
            carried = key.removesuffix(_EXAMPLES)
            if key != carried:
                carried = {n: i["shape"] for n, i in signatures[carried]["inputs"].items() if n not in _NO_EXAMPLE_KEYS}
            else:
                carried = {}
            for width in source.widths({**shapes, **carried}, support_width):
                varied = source.make(shapes, carried, batch=1, width=width)
                for batch in batch_sizes:
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name, request.model_spec.signature_name = model_name, key
                    if batch == 1 and width == support_width:
                        _encode(request, varied)
                    if not request.inputs or request.ByteSize() > _VARIED_BYTES:
                        _repeat(request, varied, batch)
                    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                    writer.write(log.SerializeToString())
                    count += 1
                    if count > MAX_RECORDS:
                        raise ExportError(f"A server takes at most {MAX_RECORDS} warm-up requests; {len(signatures)} "
                                          f"signatures at batch sizes {batch_sizes} are more. Name fewer batch sizes.")
    # The writer does not say where it failed.
    if not os.path.getsize(path):
        raise OSError(f"nothing was written to '{path}'")
    return count


class _Requests:
    """Fills inputs by their names."""

    def __init__(self, spec: FeatureSpec, item_features: tuple[Feature, ...], catalogue: dict[str, np.ndarray], *,
                 query_width: int, state_model: str, state_width: int, rng: np.random.Generator):
        # A missing number is fine, but a warm-up takes the path without complaints.
        self._catalogue = {k: np.nan_to_num(v) if v.dtype.kind == "f" else v for k, v in catalogue.items()}
        self._spec, self._rng = spec, rng
        self._query_width, self._state_model, self._state_width = query_width, state_model, state_width
        self._users = {name: f for f in spec.user_features for name in input_names("user", [f]).values()}
        self._items = {name: (prefix, f.name) for prefix in ("support", "query")
                       for f in item_features for name in input_names(prefix, [f]).values()}

    def widths(self, shapes: dict[str, list], bound: int) -> tuple[int, ...]:
        """The support widths that make a difference to a signature."""
        wide = any(name.startswith(("support_", "exclude_")) and len(shape) > 1 for name, shape in shapes.items())
        return tuple(dict.fromkeys((1, bound))) if wide else (bound,)

    def make(self, shapes: dict[str, list], carried: dict[str, list], *, batch: int,
             width: int) -> dict[str, np.ndarray]:
        """Returns input name -> values; `carried` are the inputs that the examples of a signature have."""
        rows = {prefix: draw_items(self._catalogue, (batch, size), self._rng)
                for prefix, size in (("support", width), ("query", self._query_width), ("exclude", width))}
        made = {name: self._value(name, shape, rows, batch=batch, width=width)
                for name, shape in {**shapes, **carried}.items() if name != "examples"}
        if carried:
            examples = [_example({name: made[name][row] for name in carried}) for row in range(batch)]
            made = {**{n: v for n, v in made.items() if n in shapes}, "examples": np.array(examples, object)}
        return made

    def _value(self, name: str, shape: list, rows: dict, *, batch: int, width: int) -> np.ndarray:
        label = self._spec.label
        if name in self._users:
            return random_raw((self._users[name],), (batch,), self._rng)[self._users[name].name]
        if name in self._items:
            prefix, feature = self._items[name]
            values = rows[prefix][feature]
            # One item a row instead of a list of them: an inner shape has no free axis.
            return values[:, 0] if len(shape) < 2 or shape[1] is not None else values
        if name == "exclude_item":
            return rows["exclude"][self._spec.item_id.name]
        if name == "support_label":
            low = label.maximum if label.unit == "click" else label.minimum
            return self._rng.uniform(low, label.maximum, (batch, width)).astype(np.float32)
        if name in ("support_length", "exclude_length"):
            return np.full(batch, width, np.int32)
        if name == "user_state":
            return np.zeros((batch, self._state_width), np.float32)
        if name == "state_model":
            return np.full(batch, self._state_model, object)
        if name == "document":
            return np.full(batch, "feature_spec", object)
        raise ExportError(f"Warm-up requests need a value for the input '{name}'; export.warmup knows none.")


def _encode(request: predict_pb2.PredictRequest, values: dict[str, np.ndarray]) -> None:
    for name, value in values.items():
        tensor_codec.encode(value, request.inputs[name])


def _repeat(request: predict_pb2.PredictRequest, values: dict[str, np.ndarray], batch: int) -> None:
    """Writes tensors of `batch` rows that have one value throughout: TensorFlow repeats the last one given."""
    request.ClearField("inputs")
    for name, value in values.items():
        proto = request.inputs[name]
        tensor_codec.encode(value.ravel()[:1], proto, typed=True)
        proto.tensor_shape.Clear()
        for size in (batch, *value.shape[1:]):
            proto.tensor_shape.dim.add(size=size)


def _example(values: dict[str, np.ndarray]) -> bytes:
    """Returns a flat tf.Example: one list a name, arrays row-major."""
    example = tf.train.Example()
    for name, value in values.items():
        flat = np.asarray(value).ravel()
        feature = example.features.feature[name]
        if flat.dtype.kind == "f":
            feature.float_list.value.extend(flat.tolist())
        elif flat.dtype.kind in "iu":
            feature.int64_list.value.extend(flat.tolist())
        else:
            feature.bytes_list.value.extend([v if isinstance(v, bytes) else v.encode("utf-8") for v in flat.tolist()])
    return example.SerializeToString(deterministic=True)
