"""OpenTelemetry spans of a client's requests, where they are asked for."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tfmeta.errors import ConfigError
from tfmeta.serving.client.calls import PredictCall, StatusCall
from tfmeta.serving.request_error import RequestError

_PREDICT, _STATUS = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"


class Telemetry:
    """One client span for every attempt of every request, whose context travels with the request.

    Names and attributes follow the semantic conventions of RPC and HTTP client spans; `tfmeta.model`,
    `tfmeta.version`, `tfmeta.signature`, `tfmeta.rows`, `tfmeta.attempt` and `tfmeta.code` are added.

    Args:
      provider: True for the global tracer provider, a tracer provider, or False for no spans.
      address: of the server.
      system: `grpc` or `http`.

    Raises:
      ConfigError: if spans are asked for and opentelemetry-api is not installed.
    """

    def __init__(self, provider: Any, *, address: str, system: str):
        self._tracer = None
        if provider is None or provider is False:
            return
        try:
            from opentelemetry import propagate, trace
        except ImportError:
            raise ConfigError("telemetry requires the package opentelemetry-api, which is not installed. Install "
                              "tfmeta[otel].") from None
        self._trace, self._propagate = trace, propagate
        self._tracer = trace.get_tracer("tfmeta.serving", tracer_provider=None if provider is True else provider)
        self._fixed = {"rpc.system": "grpc"} if system == "grpc" else {"http.request.method": "POST"}
        self._fixed["server.address"] = address

    @contextlib.contextmanager
    def span(self, call: PredictCall | StatusCall, attempt: int) -> Iterator[tuple[list[tuple[str, str]], dict]]:
        """Yields the headers that carry the span's context, and a dict for attributes known after the reply."""
        if self._tracer is None:
            yield [], {}
            return
        predict = isinstance(call, PredictCall)
        service, method = (_PREDICT, "Predict") if predict else (_STATUS, "GetModelStatus")
        attributes = {**self._fixed, "tfmeta.model": call.model, "tfmeta.attempt": attempt}
        if "rpc.system" in attributes:
            attributes |= {"rpc.service": service, "rpc.method": method}
        elif not predict:
            attributes["http.request.method"] = "GET"
        if predict:
            attributes |= {"tfmeta.signature": call.signature or "serving_default",
                           "tfmeta.rows": max((len(v) for v in call.inputs.values() if v.ndim), default=0)}
        # Errors are recorded here, by their code, and not once more by the tracer.
        with self._tracer.start_as_current_span(f"{service}/{method}", kind=self._trace.SpanKind.CLIENT,
                                                attributes=attributes, record_exception=False,
                                                set_status_on_exception=False) as span:
            carrier: dict[str, str] = {}
            self._propagate.inject(carrier)
            learned: dict = {"tfmeta.code": "OK"}
            if getattr(call, "version", None) is not None:
                learned["tfmeta.version"] = call.version
            try:
                yield list(carrier.items()), learned
            except BaseException as error:
                learned["tfmeta.code"] = getattr(error, "code", None) if isinstance(error, RequestError) else "UNKNOWN"
                span.record_exception(error)
                span.set_status(self._trace.StatusCode.ERROR, str(error))
                raise
            finally:
                span.set_attributes({k: v for k, v in learned.items() if v is not None})
