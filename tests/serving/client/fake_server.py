"""A gRPC server without TensorFlow that fails, stalls and changes its model as a test tells it."""

import concurrent.futures
import json
import time

import grpc
import numpy as np
from client_models import make_spec

from tfmeta.serving import tensor_codec, wire


class FakeServer:
    """Scores items by their position in the request; remembers what it was asked.

    Attributes:
      failures: what the next requests fail with: a code, or a number of seconds to stall; None answers.
      versions: those that are loaded.
      requests: (signature, version asked for, inputs, metadata) of every Predict.
      times: seconds that each of them had left.
      specs, exports: what `metadata` says, by version.
      after: called with the signature after each answer.
    """

    def __init__(self, *, credentials=None):
        self.failures, self.requests, self.times = [], [], []
        self.versions = [1]
        self.specs, self.exports = {}, {}
        self.after = None
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        handlers = {name: grpc.unary_unary_rpc_method_handler(
            method, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString())
            for name, method, request in (("Predict", self._predict, wire.PredictRequest),
                                          ("GetModelStatus", self._status, wire.GetModelStatusRequest))}
        for service in ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
        address = "localhost:0" if credentials else "127.0.0.1:0"
        self._port = (self._server.add_secure_port(address, credentials) if credentials else
                      self._server.add_insecure_port(address))
        self.address = f"{address.partition(':')[0]}:{self._port}"
        self._server.start()

    def close(self):
        self._server.stop(None)

    def document(self, name: str, version: int) -> str:
        if name == "feature_spec":
            return self.specs.get(version, make_spec()).to_json()
        signatures = {key: {} for key in ("score", "adapt_and_score", "adapt", "metadata")}
        return json.dumps({"item_features": "catalogue", "support_bound": 4, "signatures": signatures,
                           **self.exports.get(version, {})})

    def asked(self, signature: str) -> list:
        return [r for r in self.requests if r[0] == signature]

    def _predict(self, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        inputs = {name: tensor_codec.decode(proto) for name, proto in request.inputs.items()}
        self.requests.append((spec.signature_name, version, inputs, dict(context.invocation_metadata())))
        self.times.append(context.time_remaining())
        failure = self.failures.pop(0) if self.failures and spec.signature_name != "metadata" else None
        if isinstance(failure, str):
            context.abort(getattr(grpc.StatusCode, failure), f"told to fail with {failure}")
        if failure:
            time.sleep(failure)
        if version is not None and version not in self.versions:
            context.abort(grpc.StatusCode.NOT_FOUND,
                          f"Servable not found for request: Specific({spec.name}, {version})")
        version = version or max(self.versions)
        response = wire.PredictResponse()
        response.model_spec.version.value = version
        if spec.signature_name == "metadata":
            outputs = {"json": np.array([self.document(d.decode(), version) for d in inputs["document"]], object)}
        else:
            ids = inputs["query_movie"]
            # An item's own number, and the version as the fraction, so that mixed answers show.
            numbers = np.array([int(i[1:] or b"-1") for i in ids.ravel().tolist()]).reshape(ids.shape)
            outputs = {"scores": (numbers + version / 10).astype(np.float32), "status": np.zeros(len(ids), np.int32)}
            if "support_label" in inputs:
                outputs["base_scores"] = outputs["scores"]
        for name, value in outputs.items():
            tensor_codec.encode(value, response.outputs[name])
        if self.after is not None:
            self.after(spec.signature_name)
        return response

    def _status(self, request, context):
        failure = self.failures.pop(0) if self.failures else None
        if failure:
            context.abort(getattr(grpc.StatusCode, failure), f"told to fail with {failure}")
        response = wire.GetModelStatusResponse()
        for version in sorted(self.versions, reverse=True):
            response.model_version_status.add(version=version, state=30)
        return response
