"""What the REST port answers, apart from HTTP itself."""

import contextlib
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from tfmeta.serving import openapi
from tfmeta.serving.model_manager import STATE_NAMES, ModelManager
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.rest_codec import parse_body, read_request, signature_name, write_reply
from tfmeta.serving.rest_reply import RestReply
from tfmeta.serving.server_metrics import NONE, UNKNOWN, ServerMetrics

METRICS_PATH = "/monitoring/prometheus/metrics"
HEALTH_PATH = "/healthz"
OPENAPI_PATH = "/openapi.json"
# Below it pages run models, so their requests count among those that run at the same time.
PAGES_PREFIX = "/page/"

_MODEL = r"(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(rf"(?i:/v1/models){_MODEL}:(?i:predict)")
_GET = re.compile(rf"(?i:/v1/models){_MODEL}(?P<metadata>/(?i:metadata))?")
_STATUS = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
           "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409,
           "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
           "DEADLINE_EXCEEDED": 504}
_LOG = logging.getLogger("tfmeta.serving")


class RestApi:
    """TensorFlow Serving's REST API (predict, status, metadata), health, metrics and a description of all that.

    Args:
      manager: the loaded models.
      threads: requests that are read and run at the same time.
      max_queued: requests that may wait for one of them; more are refused with RESOURCE_EXHAUSTED.
      timeout: seconds until a request is given up with DEADLINE_EXCEEDED.
      metrics: where requests are counted, or None.
      pages: what answers other paths: `(method, path, body) -> RestReply, or None if the path is not its own`.
    """

    def __init__(self, manager: ModelManager, *, threads: int, max_queued: int = 256, timeout: float = 30.0,
                 metrics: ServerMetrics | None = None,
                 pages: Callable[[str, str, bytes], RestReply | None] | None = None):
        self._manager, self._metrics, self._pages, self._timeout = manager, metrics, pages, timeout
        self._slots = threading.Semaphore(threads)
        self._entries = threading.Semaphore(threads + max_queued)

    def answer(self, method: str, target: str, body: bytes = b"") -> RestReply:
        """Answers a request.

        Args:
          method: of HTTP.
          target: path and, ignored, a query.
          body: of the request.
        """
        path = re.sub(r"^https?://[^/?]*", "", target, flags=re.IGNORECASE).split("?", 1)[0]
        try:
            return self._answer("GET" if method == "HEAD" else method, path, body)
        except Exception as error:
            return _failed(error)[0]

    def _answer(self, method: str, path: str, body: bytes) -> RestReply:
        if method == "POST" and (found := _PREDICT.fullmatch(path)):
            return self._predict(_target(found), body)
        if method == "GET":
            if found := _GET.fullmatch(path):
                return self._metadata(_target(found)) if found["metadata"] else self._status(_target(found))
            if path == HEALTH_PATH:
                loaded = self._manager.loaded()
                return RestReply.of({"status": "ok" if loaded else "no model is loaded", "models": loaded},
                                    status=200 if loaded else 503)
            if path == METRICS_PATH and self._metrics is not None:
                return RestReply(200, self._metrics.page(), self._metrics.content_type)
            if path == OPENAPI_PATH:
                return RestReply.of(openapi.document())
        if self._pages is not None and (reply := self._ask_pages(method, path, body)) is not None:
            return reply
        malformed = f"Malformed request: {method} {path}"
        return RestReply.error(malformed, status=400 if path.lower().startswith("/v1/") else 404)

    def _ask_pages(self, method: str, path: str, body: bytes) -> RestReply | None:
        if not path.startswith(PAGES_PREFIX):
            return self._pages(method, path, body)
        begun = time.perf_counter()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._slot(time.monotonic() + self._timeout))
            except RequestError as error:
                # What gets as far as the pages is counted by them, who know its model.
                if self._metrics is not None:
                    self._metrics.request(UNKNOWN, UNKNOWN, NONE, api="page", code=error.code,
                                          seconds=time.perf_counter() - begun)
                raise
            return self._pages(method, path, body)

    def begin(self, target: str, body: bytes, done: Callable[[RestReply], None]) -> bool:
        """Begins a predict request whose model merges requests, and returns at once.

        Args:
          target: of the POST.
          body: of it.
          done: is called once with the reply, in this thread or another.

        Returns:
          False, and nothing was begun, for any other request: `answer` takes it.
        """
        found = _PREDICT.fullmatch(target.split("?", 1)[0])
        if found is None:
            return False
        begun, served = time.perf_counter(), [UNKNOWN, UNKNOWN, UNKNOWN]
        deadline = time.monotonic() + self._timeout

        def finish(reply: RestReply, code: str) -> None:
            if self._metrics is not None:
                self._metrics.request(*served, api="rest", code=code, seconds=time.perf_counter() - begun)
            done(reply)

        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._entry())
                servable = stack.enter_context(self._manager.lease(**_target(found)))
                submit = getattr(servable, "submit", None)
                if submit is None:
                    return False
                name, inputs, rows = _read(servable, body, served)
                held = stack.pop_all()

                def ended(results, error: RequestError | None) -> None:
                    try:
                        end = _failed(error) if error else (RestReply(200, write_reply(results, rows=rows)), "OK")
                    except Exception as late:  # Whatever it is, the client is not to wait for ever.
                        end = _failed(late)
                    held.close()
                    finish(*end)

                try:
                    taken = submit(name, inputs, deadline=deadline, done=ended)
                except Exception:
                    held.close()
                    raise
                if not taken:
                    held.close()
                return taken
            except Exception as error:
                finish(*_failed(error))
            return True

    def _predict(self, target: dict, body: bytes) -> RestReply:
        begun = time.perf_counter()
        deadline = time.monotonic() + self._timeout
        served, code = [UNKNOWN, UNKNOWN, UNKNOWN], "INTERNAL"
        try:
            with self._slot(deadline), self._manager.lease(**target) as servable:
                name, inputs, rows = _read(servable, body, served)
                reply = RestReply(200, write_reply(servable.run(name, inputs, deadline=deadline), rows=rows))
            code = "OK"
            return reply
        except RequestError as error:
            code = error.code
            raise
        finally:
            if self._metrics is not None:
                self._metrics.request(*served, api="rest", code=code, seconds=time.perf_counter() - begun)

    @contextlib.contextmanager
    def _entry(self) -> Iterator[None]:
        """Counts a request among those that run or wait, or refuses it."""
        if not self._entries.acquire(blocking=False):
            raise RequestError("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
        try:
            yield
        finally:
            self._entries.release()

    @contextlib.contextmanager
    def _slot(self, deadline: float) -> Iterator[None]:
        with self._entry():
            if not self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise RequestError("DEADLINE_EXCEEDED", "The request's deadline passed before it could run.")
            try:
                yield
            finally:
                self._slots.release()

    def _status(self, target: dict) -> RestReply:
        return RestReply.of({"model_version_status": [
            {"version": str(number), "state": STATE_NAMES[state],
             "status": {"error_code": error[0] if error else "OK", "error_message": error[1] if error else ""}}
            for number, state, error in self._manager.states(**target)]})

    def _metadata(self, target: dict) -> RestReply:
        with self._manager.lease(**target) as servable:
            definitions = servable.signature_defs
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, signature in definitions.items():
            signatures.signature_def[key].CopyFrom(signature)
        return RestReply.of({
            "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
            "metadata": {"signature_def": json_format.MessageToDict(signatures, preserving_proto_field_name=True)}})


def _failed(error: Exception) -> tuple[RestReply, str]:
    """Returns the reply to a request that failed, and its status code; what is no refusal is logged."""
    if isinstance(error, RequestError):
        return RestReply.error(error.message, status=_STATUS.get(error.code, 500)), error.code
    _LOG.error("A request failed in the server itself", exc_info=error)
    return RestReply.error(f"{type(error).__name__}: {error}", status=500), "INTERNAL"


def _read(servable, body: bytes, served: list) -> tuple[str, dict, bool]:
    """Returns signature, inputs and whether they came in rows; fills in name, version and signature for the metrics."""
    served[0], served[1] = servable.name, servable.version
    request = parse_body(body)
    name = signature_name(request)
    if name not in servable.signature_defs:
        raise RequestError("INVALID_ARGUMENT", f'Serving signature name: "{name}" not found in signature def')
    signature = servable.signature(name)
    served[2] = name
    inputs, rows = read_request(request, signature)
    return name, inputs, rows


def _target(found: re.Match) -> dict:
    """Returns name, version and label of a path; RequestError if the name is missing or the version too large."""
    if not found["name"]:
        raise RequestError("INVALID_ARGUMENT", "Missing model name in request.")
    version = found["version"]
    if version is not None and int(version[:20]) > 2**63 - 1:
        raise RequestError("INVALID_ARGUMENT", f"Failed to convert version: {version[:40]} to numeric.")
    return {"name": urllib.parse.unquote(found["name"]), "version": None if version is None else int(version[:20]),
            "label": urllib.parse.unquote(found["label"]) if found["label"] else None}
