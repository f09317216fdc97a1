"""Calls as the messages of TensorFlow Serving's gRPC API, and back."""

from tfmeta.serving import tensor_codec, wire
from tfmeta.serving.client.calls import PredictCall, PredictReply, StatusCall, StatusReply
from tfmeta.serving.client.client_options import ClientOptions
from tfmeta.serving.client.errors import error_for
from tfmeta.serving.request_error import RequestError

_AVAILABLE = 30  # tensorflow.serving.ModelVersionStatus.AVAILABLE
# A server that restarts is found again soon: gRPC's own first pause is a second.
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.min_reconnect_backoff_ms", 100),
              ("grpc.max_reconnect_backoff_ms", 5000)]


def channel_options(options: ClientOptions) -> list[tuple]:
    """Returns the options of a channel."""
    server_name = options.tls.server_name if options.tls else None
    return [("grpc.max_send_message_length", options.max_message_bytes),
            ("grpc.max_receive_message_length", options.max_message_bytes), *_RECONNECT,
            *(options.keep_alive.grpc_options() if options.keep_alive else ()),
            *([("grpc.ssl_target_name_override", server_name)] if server_name else ())]


def methods(channel) -> dict[type, object]:
    """Returns kind of call -> its method on a channel, blocking or asyncio."""
    return {kind: channel.unary_unary(path, request_serializer=lambda m: m.SerializeToString(),
                                      response_deserializer=response.FromString)
            for kind, path, response in ((PredictCall, wire.PREDICT_METHOD, wire.PredictResponse),
                                         (StatusCall, wire.STATUS_METHOD, wire.GetModelStatusResponse))}


def encode(call: PredictCall | StatusCall):
    """Returns the message of a call."""
    if isinstance(call, StatusCall):
        status = wire.GetModelStatusRequest()
        status.model_spec.name = call.model
        if call.label is not None:
            status.model_spec.version_label = call.label
        return status
    request = wire.PredictRequest()
    request.model_spec.name = call.model
    request.model_spec.signature_name = call.signature
    if call.version is not None:
        request.model_spec.version.value = call.version
    elif call.label is not None:
        request.model_spec.version_label = call.label
    for name, values in call.inputs.items():
        tensor_codec.encode(values, request.inputs[name])
    return request


def decode(response) -> PredictReply | StatusReply:
    """Returns what a reply's message says; RequestError if it holds no tensors."""
    if isinstance(response, wire.GetModelStatusResponse):
        return StatusReply(sorted((s.version for s in response.model_version_status if s.state == _AVAILABLE),
                                  reverse=True))
    try:
        outputs = {name: tensor_codec.decode(proto) for name, proto in response.outputs.items()}
    except ValueError as error:
        raise RequestError("INTERNAL", f"The server's reply is malformed: {error}.") from None
    spec = response.model_spec
    return PredictReply(outputs, spec.version.value if spec.HasField("version") else None)


def to_error(error) -> RequestError:
    """Returns the typed error of a grpc.RpcError."""
    return error_for(error.code().name, error.details() or "")
