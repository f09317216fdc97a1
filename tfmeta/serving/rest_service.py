"""TensorFlow Serving's REST API: predict, status and metadata."""

import http.server
import json
import re
import threading

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from tfmeta.errors import ServingError
from tfmeta.serving.model_manager import STATE_NAMES, ModelManager
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.rest_codec import read_request, write_reply

_PATH = re.compile(r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
                   r"(?P<what>/metadata|:[a-z]+)?")
_STATUS = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "NOT_FOUND": 404,
           "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}
# Seconds without a byte after which a connection is given up.
_PATIENCE = 30


class RestService:
    """Answers HTTP requests on a port of its own, a thread each.

    Args:
      manager: the loaded models.
      host, port: to bind; port 0 picks a free one.
      threads: requests that run a model at the same time.
      max_body_bytes: largest request body.

    Raises:
      ServingError: if the port is taken.
    """

    def __init__(self, manager: ModelManager, *, host: str, port: int, threads: int, max_body_bytes: int):
        self._manager, self._slots, self._max_body_bytes = manager, threading.Semaphore(threads), max_body_bytes
        handler = type("Handler", (_Handler,), {"service": self})
        try:
            self._server = http.server.ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise ServingError(f"Port {port} of {host} cannot be opened: {error.strerror}. Choose another one, or "
                               "0 for any free port.") from None
        # Closing then waits for the requests in flight.
        self._server.daemon_threads = False
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuses new requests and waits for those in flight."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes | None) -> tuple[int, dict]:
        """Returns (HTTP status, JSON object)."""
        found = _PATH.fullmatch(path)
        if found is None or (method == "POST") != (found["what"] == ":predict"):
            return 404, {"error": f"Malformed request: {method} {path}"}
        name, label = found["name"], found["label"]
        version = None if found["version"] is None else int(found["version"])
        try:
            if method == "POST":
                return 200, self._predict(name, version, label, body)
            if found["what"] == "/metadata":
                return 200, self._metadata(name, version, label)
            return 200, {"model_version_status": [
                {"version": str(number), "state": STATE_NAMES[state],
                 "status": {"error_code": error[0] if error else "OK", "error_message": error[1] if error else ""}}
                for number, state, error in self._manager.states(name, version=version, label=label)]}
        except RequestError as error:
            return _STATUS.get(error.code, 500), {"error": error.message}

    def too_large(self, size: int) -> dict | None:
        """Returns the error of a body over the limit, None for one within it."""
        if size <= self._max_body_bytes:
            return None
        return {"error": f"The body requires at most {self._max_body_bytes} bytes, received {size}."}

    def _predict(self, name: str, version: int | None, label: str | None, body: bytes) -> dict:
        with self._manager.lease(name, version=version, label=label) as servable:
            return self._run(servable, body)

    def _run(self, servable, body: bytes) -> dict:
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            raise RequestError("INVALID_ARGUMENT", "JSON Parse error: the body is not JSON.") from None
        key = request.get("signature_name", "") if isinstance(request, dict) else ""
        if not isinstance(key, str):
            raise RequestError("INVALID_ARGUMENT", "Malformed request: 'signature_name' requires a string.")
        key = key or "serving_default"
        if key not in servable.signature_defs:
            raise RequestError("INVALID_ARGUMENT", f'Serving signature name: "{key}" not found in signature def')
        inputs, rows = read_request(request, servable.signature(key))
        with self._slots:
            outputs = servable.run(key, inputs)
        return write_reply(outputs, rows=rows)

    def _metadata(self, name: str, version: int | None, label: str | None) -> dict:
        with self._manager.lease(name, version=version, label=label) as servable:
            definitions = servable.signature_defs
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, signature in definitions.items():
            signatures.signature_def[key].CopyFrom(signature)
        return {"model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
                "metadata": {"signature_def": json_format.MessageToDict(signatures, preserving_proto_field_name=True)}}


class _Handler(http.server.BaseHTTPRequestHandler):
    service: RestService
    timeout = _PATIENCE

    def do_GET(self):
        self._reply(*self.service.answer("GET", self.path, None))

    def do_POST(self):
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            size = -1
        if size < 0:
            self._reply(411, {"error": "The request requires a Content-Length."})
            return
        error = self.service.too_large(size)
        if error is not None:
            self._reply(413, error)
            return
        self._reply(*self.service.answer("POST", self.path, self.rfile.read(size)))

    def _reply(self, status: int, content: dict) -> None:
        data = json.dumps(content).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        """Requests are not logged, as the gRPC side does not."""
