"""gRPC client of a model server (TensorFlow Serving or the embedded one) that needs no TensorFlow."""

import time

import numpy as np

from tfmeta.serving import tensor_codec, wire
from tfmeta.serving.request_error import RequestError

_AVAILABLE = 30  # tensorflow.serving.ModelVersionStatus.AVAILABLE

# Bits of the output `status`; see the signatures' documentation.
_STATUS_BITS = {1: "a non-finite label was dropped", 2: "a non-finite feature was replaced",
                4: "the state belongs to another model", 8: "a length outside 0 to the width was clamped"}


class Client:
    """Calls the Predict method of one server.

    Example:
        with Client("127.0.0.1:8500") as client:
            outputs = client.predict("movies", {"query_item_id": [["1", "2"]], ...}, signature="score")
            outputs["scores"]  # [B, Q] float32

    Args:
      address: `host:port` of the gRPC endpoint.
      max_message_bytes: largest request or reply.
    """

    def __init__(self, address: str, *, max_message_bytes: int = 64 << 20):
        import grpc

        self.address = address
        self._grpc = grpc
        self._channel = grpc.insecure_channel(address, options=[
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes)])
        self._predict = self._method(wire.PREDICT_METHOD, wire.PredictResponse)
        self._status = self._method(wire.STATUS_METHOD, wire.GetModelStatusResponse)

    def _method(self, path: str, response: type):
        return self._channel.unary_unary(path, request_serializer=lambda m: m.SerializeToString(),
                                         response_deserializer=response.FromString)

    def _call(self, method, request, timeout: float):
        try:
            return method(request, timeout=timeout)
        except self._grpc.RpcError as error:
            raise RequestError(error.code().name, error.details() or "") from None

    def predict(self, model: str, inputs: dict[str, np.ndarray], *, signature: str = "score",
                version: int | None = None, timeout: float = 10.0,
                accept_status: bool = False) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
          model: name of the model on the server.
          inputs: arrays by input name, all with the batch as axis 0; dtypes as the signature has them
            (labels float32, lengths int32; ids and strings as `str` or `bytes`).
          signature: name of the signature; empty for the default one.
          version: a version, or None for the latest.
          timeout: seconds until DEADLINE_EXCEEDED.
          accept_status: return rows whose `status` is not 0 instead of raising; they are then the caller's to read.

        Returns:
          Arrays by output name; strings as bytes in object arrays.

        Raises:
          RequestError: with the server's code and message; with code `DATA_LOSS`, naming the rows, where an output
            `status` says that values of the request were dropped, replaced or clamped.
          ValueError: if an input is of a type that no tensor has.
        """
        request = wire.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, values in inputs.items():
            tensor_codec.encode(values, request.inputs[name])
        response = self._call(self._predict, request, timeout)
        outputs = {name: tensor_codec.decode(proto) for name, proto in response.outputs.items()}
        if not accept_status and "status" in outputs and outputs["status"].any():
            raise RequestError("DATA_LOSS", _describe_status(outputs["status"]))
        return outputs

    def versions(self, model: str, *, timeout: float = 10.0) -> list[int]:
        """Returns the versions of a model that can be called now, newest first; RequestError if there is no model."""
        request = wire.GetModelStatusRequest()
        request.model_spec.name = model
        response = self._call(self._status, request, timeout)
        return [s.version for s in response.model_version_status if s.state == _AVAILABLE]

    def wait_until_available(self, model: str, *, timeout: float = 60.0) -> int:
        """Waits until the server has a version of the model, and returns its number.

        Raises:
          RequestError: the last failure, after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                available = self.versions(model, timeout=max(0.1, min(5.0, deadline - time.monotonic())))
                if available:
                    return available[0]
                failure = RequestError("UNAVAILABLE", f"model '{model}' has no available version")
            except RequestError as error:
                failure = error
            if time.monotonic() >= deadline:
                raise failure
            time.sleep(0.1)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_):
        self.close()


def _describe_status(status: np.ndarray) -> str:
    rows = []
    for row in np.flatnonzero(status):
        reasons = [text for bit, text in _STATUS_BITS.items() if int(status[row]) & bit]
        rows.append(f"row {row}: {' and '.join(reasons) or f'status {int(status[row])}'}")
    return f"{'; '.join(rows)}. Mend the request, or pass accept_status=True to take the result as it is."
