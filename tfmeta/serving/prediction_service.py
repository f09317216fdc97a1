"""tensorflow.serving.PredictionService: Predict and GetModelMetadata."""

import logging
import time

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from tfmeta.serving import tensor_codec
from tfmeta.serving.lifecycle.lease import Lease
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.servable import Servable
from tfmeta.serving.server_metrics import UNKNOWN, ServerMetrics

_LOG = logging.getLogger("tfmeta.serving")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers as TensorFlow Serving does, status codes and messages included.

    One difference, on purpose: a tensor without elements is refused, because under request batching it would fail
    other people's requests, and no graph can mend it.

    Args:
      manager: the loaded models.
      tensor_content: write outputs as `tensor_content` instead of typed values (`float_val`), as the stock
        server does with `--enable_serialization_as_tensor_content`.
      metrics: where requests are counted, or None.
    """

    def __init__(self, manager: ModelManager, *, tensor_content: bool = False,
                 metrics: ServerMetrics | None = None):
        self._manager, self._metrics = manager, metrics
        self._typed = not tensor_content

    def Predict(self, request, context):
        begun = time.perf_counter()
        served = [UNKNOWN, UNKNOWN, UNKNOWN]
        remaining = context.time_remaining()
        response, code, message = None, "OK", ""
        try:
            response = self._predict(request, served,
                                     deadline=None if remaining is None else time.monotonic() + remaining)
        except Exception as error:
            code, message = failure(error)
        if self._metrics is not None:
            self._metrics.request(*served, api="grpc", code=code, seconds=time.perf_counter() - begun)
        if response is None:
            context.abort(*abort_arguments(code, message))
        return response

    def GetModelMetadata(self, request, context):
        try:
            return self._metadata(request)
        except RequestError as error:
            context.abort(*abort_arguments(error.code, error.message))

    def _predict(self, request, served: list, *, deadline: float | None) -> predict_pb2.PredictResponse:
        with lease_servable(self._manager, request) as servable:
            name, signature = self._signature(servable, request, served)
            results = servable.run(name, read_inputs(signature, request),
                                   check_filter(signature, request.output_filter), deadline=deadline)
        return self._reply(servable, name, results)

    def _signature(self, servable: Servable, request, served: list) -> tuple[str, object]:
        """Returns name and definition of the signature asked for; fills in name, version and signature for metrics."""
        served[0], served[1] = servable.name, servable.version
        name = request.model_spec.signature_name or "serving_default"
        signature = servable.signature(name)
        served[2] = name
        return name, signature

    def _reply(self, servable: Servable, name: str, results: dict[str, np.ndarray]) -> predict_pb2.PredictResponse:
        response = predict_pb2.PredictResponse()
        describe(response.model_spec, servable)
        response.model_spec.signature_name = name
        outputs = response.outputs
        for alias, value in results.items():
            tensor_codec.encode(value, outputs[alias], typed=self._typed)
        return response

    def _metadata(self, request) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise RequestError("INVALID_ARGUMENT", "Missing ModelSpec")
        if not request.metadata_field:
            raise RequestError("INVALID_ARGUMENT",
                               "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise RequestError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
        with lease_servable(self._manager, request) as servable:
            definitions = servable.signature_defs
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in definitions.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        describe(response.model_spec, servable)
        response.metadata["signature_def"].Pack(signatures)
        return response


def lease_servable(manager: ModelManager, request) -> Lease:
    """Returns the servable that a request's model_spec means, for a `with` block; RequestError if there is none."""
    if not request.HasField("model_spec"):
        raise RequestError("INVALID_ARGUMENT", "Missing ModelSpec")
    spec = request.model_spec
    return manager.lease(spec.name, version=spec.version.value if spec.HasField("version") else None,
                         label=spec.version_label or None)


def failure(error: Exception) -> tuple[str, str]:
    """Returns code and message of a request that failed; what is no refusal is logged."""
    if isinstance(error, RequestError):
        return error.code, error.message
    _LOG.error("A request failed in the server itself", exc_info=error)
    return "INTERNAL", f"{type(error).__name__}: {error}"


def abort_arguments(code: str, message: str) -> tuple[grpc.StatusCode, str]:
    """Returns what `context.abort` takes."""
    return getattr(grpc.StatusCode, code), message


def describe(spec, servable: Servable) -> None:
    """Writes name and resolved version into a reply's model_spec."""
    spec.name = servable.name
    spec.version.value = servable.version


def check_aliases(signature, sent: set[str]) -> None:
    """Raises RequestError unless a request has exactly the inputs of a signature."""
    required = set(signature.inputs)
    if len(required) != len(sent):
        extra, missing = sent - required, required - sent
        raise RequestError("INVALID_ARGUMENT",
                           f"input size does not match signature: {len(sent)}!={len(required)} len({_set(sent)}) != "
                           f"len({_set(required)}). Sent extra: {_set(extra)}. Missing but required: {_set(missing)}.")
    for alias in sorted(required - sent):
        raise RequestError("INVALID_ARGUMENT",
                           f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in "
                           f"request and no default value provided. Inputs expected to be in the set {_set(required)}.")


def refuse_empty(alias: str, value: np.ndarray) -> np.ndarray:
    """Returns the tensor; RequestError if it has no elements."""
    if value.size == 0:
        raise RequestError("INVALID_ARGUMENT",
                           f"Input {alias} has no elements (shape {list(value.shape)}). Under request "
                           "batching it would fail other requests; send an empty support as width 1 with length 0.")
    return value


def read_inputs(signature, request) -> dict[str, np.ndarray]:
    """Returns the arrays of a Predict request by input name; RequestError unless they fit the signature."""
    check_aliases(signature, set(request.inputs))
    inputs = {}
    for alias, proto in request.inputs.items():
        try:
            inputs[alias] = refuse_empty(alias, tensor_codec.decode(proto))
        except ValueError:
            raise RequestError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from None
    return inputs


def check_filter(signature, wanted) -> tuple[str, ...]:
    """Returns a request's output filter; RequestError names an output that is unknown or there twice."""
    for position, alias in enumerate(wanted):
        if alias not in signature.outputs:
            raise RequestError("INVALID_ARGUMENT",
                               f"output tensor alias not found in signature: {alias} Outputs expected to be in the "
                               f"set {_set(signature.outputs)}.")
        if alias in wanted[:position]:
            raise RequestError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
    return tuple(wanted)


def _set(names) -> str:
    return "{" + ",".join(sorted(names)) + "}"
