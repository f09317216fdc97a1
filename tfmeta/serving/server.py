"""The embedded model server: TensorFlow Serving's Predict API in one Python process."""

import concurrent.futures

from tfmeta.errors import ServingError

GRPC_THREADS = 4


class EmbeddedServer:
    """Serves SavedModels over TensorFlow Serving's gRPC and REST API, for development, tests and small deployments.

    It loads the latest version of each model when it starts, and answers with TensorFlow Serving's status codes and
    messages, so a client written against it needs no change in production. It has no request batching.

    Example:
        with EmbeddedServer({"movies": "/models/movies"}, grpc_port=0) as server:
            client = Client(server.grpc_address)

    Args:
      model_bases: model name -> base path with numeric version directories.
      grpc_port: port of the gRPC API; 0 picks a free one.
      rest_port: port of the REST API; 0 picks a free one, None leaves it out.
      host: address to bind; the default is reachable from this machine only, and there is no authentication.
      threads: requests that run at the same time.
      tensor_content: write outputs as `tensor_content` instead of typed values.
      max_message_bytes: largest request or reply.

    Raises:
      ServingError: if a model does not load or the port is taken.
    """

    def __init__(self, model_bases: dict[str, str], *, grpc_port: int = 8500, rest_port: int | None = None,
                 host: str = "127.0.0.1", threads: int = GRPC_THREADS, tensor_content: bool = False,
                 max_message_bytes: int = 64 << 20):
        for port in (grpc_port, 0 if rest_port is None else rest_port):
            if not 0 <= port <= 65535:
                raise ServingError(f"A port requires a number from 0 to 65535, received {port}.")
        if threads < 1:
            raise ServingError(f"A server requires at least 1 thread, received {threads}.")
        self._model_bases = dict(model_bases)
        self._port, self._rest_port, self._host, self._threads = grpc_port, rest_port, host, threads
        self._tensor_content, self._max_message_bytes = tensor_content, max_message_bytes
        self._server = self._manager = self._rest = None
        self.grpc_address = self.rest_address = ""

    @property
    def versions(self) -> dict[str, int]:
        """Model name -> loaded version; empty before the start."""
        return self._manager.loaded() if self._manager else {}

    def start(self) -> "EmbeddedServer":
        """Loads the models and opens the port; `grpc_address` and `rest_address` are set afterwards."""
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        from tfmeta.serving.model_manager import ModelManager
        from tfmeta.serving.model_service import ModelService
        from tfmeta.serving.prediction_service import PredictionService

        manager = ModelManager(self._model_bases)
        manager.load()
        server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(self._threads, thread_name_prefix="predict"),
            options=[("grpc.max_send_message_length", self._max_message_bytes),
                     ("grpc.max_receive_message_length", self._max_message_bytes),
                     # Two servers on one port would share its requests.
                     ("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(manager, tensor_content=self._tensor_content), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(manager), server)
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            port = server.add_insecure_port(f"{host}:{self._port}")
        except RuntimeError:
            port = 0
        if not port:
            manager.close()
            raise ServingError(f"Port {self._port} of {self._host} cannot be opened; another process may hold it. "
                               "Choose another one, or 0 for any free port.")
        if self._rest_port is not None:
            from tfmeta.serving.rest_service import RestService

            try:
                self._rest = RestService(manager, host=self._host, port=self._rest_port, threads=self._threads,
                                         max_body_bytes=self._max_message_bytes)
            except ServingError:
                server.stop(None)
                manager.close()
                raise
            self.rest_address = self._rest.address
        server.start()
        self._manager, self._server = manager, server
        self.grpc_address = f"{host}:{port}"
        return self

    def stop(self, *, grace: float = 10.0) -> None:
        """Refuses new requests, lets those in flight finish for up to `grace` seconds, and unloads the models."""
        if self._server is not None:
            stopped = self._server.stop(grace)
            if self._rest is not None:
                self._rest.stop()
                self._rest = None
            stopped.wait()
            self._manager.close()
            self._server = None

    def __enter__(self) -> "EmbeddedServer":
        return self.start()

    def __exit__(self, *_):
        self.stop()
