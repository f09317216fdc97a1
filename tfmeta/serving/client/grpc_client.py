"""gRPC client of a model server (TensorFlow Serving or the embedded one) that needs no TensorFlow."""

from tfmeta.serving.client import grpc_messages
from tfmeta.serving.client.blocking_client import BlockingClient


class Client(BlockingClient):
    """Calls a server over gRPC; needs grpcio, protobuf and numpy alone.

    Example:
        with Client("127.0.0.1:8500", model="movies") as client:
            result = client.adapt_and_score(user={"age": 30}, support=[("p1", 5.0), ("p2", 2.0)],
                                            candidates=["p7", "p8", "p9"])
            result.ranked()  # [("p8", 4.4), ...]

    The calls are those of `BaseClient`. A client is safe from many threads, and one for each server is enough.

    Args:
      address: `host:port` of the gRPC endpoint, or anything that gRPC resolves.
      arguments: `model`, and `options` or single fields of `ClientOptions`.
    """

    def __init__(self, address: str, **arguments):
        super().__init__(address, **arguments)
        import grpc

        self._grpc = grpc
        channel_options = grpc_messages.channel_options(self.options)
        tls = self.options.tls
        self._channel = (grpc.insecure_channel(address, options=channel_options) if tls is None else
                         grpc.secure_channel(address, tls.grpc_credentials(), options=channel_options))
        self._methods = grpc_messages.methods(self._channel)

    def _send(self, call, timeout, headers):
        try:
            response = self._methods[type(call)](grpc_messages.encode(call), timeout=timeout, metadata=headers)
        except self._grpc.RpcError as error:
            raise grpc_messages.to_error(error) from None
        return grpc_messages.decode(response)

    def close(self) -> None:
        """Closes the connection."""
        super().close()
        self._channel.close()
