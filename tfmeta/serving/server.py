"""The embedded model server: TensorFlow Serving's Predict API in one Python process."""

import concurrent.futures
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tfmeta.errors import ServingError
from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.lifecycle.exposure import require_protection
from tfmeta.serving.lifecycle.tls_files import TlsFiles
from tfmeta.serving.model_config import ModelConfig

if TYPE_CHECKING:
    from tfmeta.serving.batching.batching_parameters import BatchingParameters

GRPC_THREADS = 4
QUEUE = 256
# Under request batching a request waits for its batch in its own thread.
_BATCHING_THREADS = 64


class EmbeddedServer:
    """Serves SavedModels over TensorFlow Serving's gRPC and REST API, for development, tests and small deployments.

    It answers with TensorFlow Serving's status codes and messages, so a client written against it needs no change in
    production. It follows the base paths: a new version is loaded and warmed up while the old one serves, and a
    damaged one disturbs nothing (see `ModelManager`).

    Example:
        with EmbeddedServer({"movies": "/models/movies"}, grpc_port=0) as server:
            client = Client(server.grpc_address)

    Args:
      models: model name -> base path with numeric version directories, the latest being served; or `ModelConfig`s,
        as `model_config_file.read_model_config_file` returns them.
      model_config_file: a ModelServerConfig in text format with (further) models; a path.
      model_config_poll_seconds: time between two looks at that file, whose changes then replace the list of models; 0
        never looks again.
      grpc_port: port of the gRPC API; 0 picks a free one.
      rest_port: port of the REST API; 0 picks a free one, None leaves it out.
      host: address to bind; the default is reachable from this machine only. Any other one requires TLS and a token.
      threads: requests that run at the same time; None chooses 4, or as many as fill two batches under batching.
      max_queued_requests: requests that may wait for a thread; more are refused with RESOURCE_EXHAUSTED.
      max_message_bytes: largest request or reply.
      tensor_content: write outputs as `tensor_content` instead of typed values.
      poll_seconds: time between two looks for new versions; 0 never looks again.
      batching: parameters of request batching; None runs each request alone.
      per_model_batching: a version's own `batching_params.pbtxt` goes before `batching`.
      warm_up: replay a version's recorded requests before it serves.
      allow_unavailable_labels: a label may name a version that is not loaded (yet).
      tls: certificate and key; None speaks plain text.
      token: what callers must send as `Authorization: Bearer TOKEN`; None asks for none.
      insecure: bind a host that others reach without TLS or without a token.
      page: answer `/` on the REST port with the page.

    Raises:
      ServingError: if an option is out of range, a model does not load, a file of TLS is wrong, or the port is taken.
    """

    def __init__(self, models: Mapping[str, str] | Iterable[ModelConfig] = (), *,
                 model_config_file: str | None = None, model_config_poll_seconds: float = 0.0, grpc_port: int = 8500,
                 rest_port: int | None = None, host: str = "127.0.0.1", threads: int | None = None,
                 max_queued_requests: int = QUEUE, max_message_bytes: int = 64 << 20, tensor_content: bool = False,
                 poll_seconds: float = 1.0, batching: "BatchingParameters | None" = None,
                 per_model_batching: bool = False, warm_up: bool = True, allow_unavailable_labels: bool = False,
                 tls: TlsFiles | None = None, token: BearerToken | None = None, insecure: bool = False,
                 page: bool = True):
        for port in (grpc_port, 0 if rest_port is None else rest_port):
            if not 0 <= port <= 65535:
                raise ServingError(f"A port requires a number from 0 to 65535, received {port}.")
        if threads is None:
            batch = batching.max_batch_size if batching else 0
            threads = max(GRPC_THREADS, min(_BATCHING_THREADS, 2 * batch))
        for name, value, least in (("threads", threads, 1), ("max_queued_requests", max_queued_requests, 0),
                                   ("max_message_bytes", max_message_bytes, 1), ("poll_seconds", poll_seconds, 0),
                                   ("model_config_poll_seconds", model_config_poll_seconds, 0)):
            if not value >= least:
                raise ServingError(f"A server requires {name} of at least {least}, received {value}.")
        require_protection(host, tls=tls is not None, token=token is not None, insecure=insecure)
        if isinstance(models, Mapping):
            models = [ModelConfig(name=name, base_path=base) for name, base in models.items()]
        self._models = list(models)
        self._config_file, self._config_seconds = model_config_file, model_config_poll_seconds
        self._port, self._rest_port, self._host, self._threads = grpc_port, rest_port, host, threads
        self._queue, self._max_message_bytes = max_queued_requests, max_message_bytes
        self._tensor_content = tensor_content
        self._batching, self._per_model_batching, self._warm_up = batching, per_model_batching, warm_up
        self._poll_seconds, self._allow_unavailable_labels = poll_seconds, allow_unavailable_labels
        self._tls, self._token, self._page = tls, token, page
        self._server = self._manager = self._rest = self._metrics = self._follower = self._pool = None
        self.grpc_address = self.rest_address = ""

    @property
    def versions(self) -> dict[str, int]:
        """Model name -> the version that answers requests without one; empty before the start."""
        return self._manager.loaded() if self._manager else {}

    def start(self) -> "EmbeddedServer":
        """Loads the models and opens the ports; `grpc_address` and `rest_address` are set afterwards."""
        if self._server is not None:
            raise ServingError("The server has been started already.")
        # Wrong files are told before anything is loaded.
        ssl_context = self._tls.ssl_context() if self._tls else None
        text = self._read_config()
        manager = self._make_manager(text)
        manager.load()
        server = None
        try:
            server, port = self._make_grpc(manager)
            if self._rest_port is not None:
                self._rest = self._make_rest(manager, ssl_context)
                self.rest_address = self._rest.address
        except BaseException:
            if server is not None:
                server.stop(None)
            manager.close()
            raise
        server.start()
        self._manager, self._server = manager, server
        if text is not None and self._config_seconds:
            from tfmeta.serving.lifecycle.config_follower import ConfigFollower

            self._follower = ConfigFollower(manager, self._config_file, fixed=self._models,
                                            seconds=self._config_seconds)
            self._follower.start(applied=text)
        self.grpc_address = f"{_bracketed(self._host)}:{port}"
        return self

    def stop(self, *, grace: float = 10.0) -> None:
        """Refuses new requests, lets those in flight finish for up to `grace` seconds, and unloads the models."""
        if self._server is None:
            return
        deadline = time.monotonic() + grace
        server, self._server = self._server, None
        if self._follower is not None:
            self._follower.stop()
        stopped = server.stop(grace)
        if self._rest is not None:
            self._rest.stop(grace=max(0.0, deadline - time.monotonic()))
            self._rest = None
        stopped.wait()
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self._manager.close(grace=max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> "EmbeddedServer":
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _read_config(self) -> str | None:
        if self._config_file is None:
            return None
        from tfmeta.serving.model_config_file import read_model_config_text

        return read_model_config_text(self._config_file)

    def _make_manager(self, config_text: str | None):
        from tfmeta.serving.lifecycle.servable_factory import ServableFactory
        from tfmeta.serving.model_manager import ModelManager
        from tfmeta.serving.server_metrics import ServerMetrics

        models = self._models
        if config_text is not None:
            from tfmeta.serving.model_config_file import parse_model_config

            models = [*models, *parse_model_config(config_text, path=self._config_file)]
        self._metrics = ServerMetrics(loaded=lambda: manager.loaded())
        factory = ServableFactory(self._batching, per_model=self._per_model_batching, metrics=self._metrics)
        manager = ModelManager(models, poll_seconds=self._poll_seconds, make_servable=factory,
                               warm_up=None if self._warm_up else lambda servable, path: None,
                               allow_unavailable_labels=self._allow_unavailable_labels)
        return manager

    @property
    def _merges(self) -> bool:
        return self._batching is not None or self._per_model_batching

    def _make_grpc(self, manager):
        options = [("grpc.max_send_message_length", self._max_message_bytes),
                   ("grpc.max_receive_message_length", self._max_message_bytes)]
        server = self._make_port(manager, options)
        address = f"{_bracketed(self._host)}:{self._port}"
        try:
            port = (server.add_secure_port(address, self._tls.grpc_credentials()) if self._tls
                    else server.add_insecure_port(address))
        except RuntimeError:
            port = 0
        if not port:
            server.stop(None)
            raise ServingError(f"Port {self._port} of {self._host} cannot be opened; another process may hold it. "
                               "Choose another one, or 0 for any free port.")
        return server, port

    def _make_port(self, manager, options: list):
        import grpc

        try:
            from tfmeta.serving.grpc_port import GrpcPort
        except ImportError as error:
            raise ServingError("The embedded server requires a grpcio that is built like 1.80 to 1.85, received "
                               f"{grpc.__version__}: {error}. Install grpcio==1.85.1.") from None
        from tfmeta.serving.merged_prediction_service import MergedPredictionService
        from tfmeta.serving.prediction_service import PredictionService

        common = {"tensor_content": self._tensor_content, "metrics": self._metrics}
        threads, most = self._threads, self._threads + self._queue
        if self._merges:
            self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="predict")
            threads, prediction = 1, MergedPredictionService(manager, pool=self._pool, **common)
        else:
            prediction = PredictionService(manager, **common)
        # Two servers on one port would share its requests.
        port = GrpcPort(threads=threads, max_queued=most - threads, pool=self._pool,
                        options=[*options, ("grpc.so_reuseport", 0)],
                        accepts=self._token.accepts_call if self._token else None)
        _add_services(port, manager, prediction)
        return port

    def _make_rest(self, manager, ssl_context):
        from tfmeta.serving.page.page import PATH, Page
        from tfmeta.serving.rest_service import RestService

        return RestService(manager, host=self._host, port=self._rest_port, threads=self._threads,
                           max_queued=self._queue, max_body_bytes=self._max_message_bytes, metrics=self._metrics,
                           token=self._token, ssl_context=ssl_context,
                           pages=Page(manager, metrics=self._metrics) if self._page else None,
                           open_paths=(PATH,) if self._page else (),
                           merged=self._merges)


def _add_services(server, manager, prediction) -> None:
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    from tfmeta.serving.model_service import ModelService

    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(manager), server)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
