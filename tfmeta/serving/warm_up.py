"""Replays a version's recorded requests before it takes traffic."""

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from tfmeta.io import filesystem
from tfmeta.serving import prediction_service
from tfmeta.serving.request_error import RequestError

FILE = "tf_serving_warmup_requests"
MAX_RECORDS = 1000


def replay(servable, directory: str) -> int:
    """Runs the requests of `assets.extra/tf_serving_warmup_requests`, as TensorFlow Serving does.

    The model named in a request is not looked at; the signature and the inputs are.

    Args:
      servable: the loaded version.
      directory: the version directory.

    Returns:
      The number of requests; 0 without the file.

    Raises:
      RequestError: a request that the version refuses, a record that is no request, or more than 1,000 of them. The
        version must then not be served.
    """
    path = filesystem.join(directory, "assets.extra", FILE)
    if not filesystem.exists(path):
        return 0
    count = 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise RequestError("INVALID_ARGUMENT",
                                   f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
            _run(servable, record, path)
    except tf.errors.OpError as error:
        raise RequestError("DATA_LOSS", f"Failed to read warmup records from {path}: {error.message}") from None
    return count


def _run(servable, record: bytes, path: str) -> None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except DecodeError:
        raise RequestError("INVALID_ARGUMENT", f"Failed to parse warmup record from {path}") from None
    kind = log.WhichOneof("log_type")
    if kind != "predict_log":
        raise RequestError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {kind or 'none'}")
    request = log.predict_log.request
    name = request.model_spec.signature_name
    signature = servable.signature(name)
    servable.run(name, prediction_service.read_inputs(signature, request),
                 prediction_service.check_filter(signature, request.output_filter))
