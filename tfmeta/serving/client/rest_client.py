"""REST client of a model server (TensorFlow Serving or the embedded one) that needs no TensorFlow and no gRPC."""

import time
import urllib.parse

from tfmeta.errors import ConfigError
from tfmeta.serving.client import rest_messages
from tfmeta.serving.client.blocking_client import BlockingClient
from tfmeta.serving.client.calls import PredictCall, PredictReply, StatusCall, StatusReply
from tfmeta.serving.client.client_options import ClientOptions
from tfmeta.serving.client.deadline import Deadline
from tfmeta.serving.client.errors import Exhausted, InvalidRequest
from tfmeta.serving.client.http_pool import HttpPool
from tfmeta.serving.client.tls import Tls

_JSON = {"Content-Type": "application/json"}


class RestClient(BlockingClient):
    """Calls a server over HTTP with JSON, for where gRPC does not get through; the slower of the two.

    The calls are those of `BaseClient` and give the same arrays: a reply's types are read from the model's metadata. A
    reply does not say which version answered, so results have a version only where the call named one, or where a long
    list had to be sent as several requests to one version.

    Example:
        with RestClient("http://127.0.0.1:8501", model="movies") as client:
            client.score(user={"age": 30}, candidates=["p7", "p8"]).ranked()

    Args:
      address: `host:port`, or a URL with `http://` or `https://`, whose path is put before that of the API.
      arguments: `model`, and `options` or single fields of `ClientOptions`.
    """

    _system = "http"

    def __init__(self, address: str, *, options: ClientOptions | None = None, **arguments):
        url = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
        options = options or ClientOptions()
        if url.scheme == "https" and (arguments.get("tls") or options.tls) is None:
            arguments["tls"] = Tls()
        super().__init__(address, options=options, **arguments)
        tls = self.options.tls
        try:
            port = url.port or (443 if url.scheme == "https" else 80 if url.scheme else None)
        except ValueError:
            port = None
        if url.scheme not in ("", "http", "https") or not url.hostname or not port or (tls and url.scheme == "http"):
            raise ConfigError("A REST client requires an address as host:port, http://host:port or (with tls) "
                              f"https://host:port, received '{address}'.")
        self._prefix = url.path.rstrip("/")
        self._http = HttpPool(url.hostname, port, tls=tls, idle=max(8, self.options.parallel),
                              max_bytes=self.options.max_message_bytes)
        self._signatures: dict[tuple, tuple[int | None, dict, float]] = {}

    def close(self) -> None:
        """Closes the connections."""
        super().close()
        self._http.close()

    def _send(self, call, timeout, headers):
        deadline = Deadline(timeout, clock=self._clock)
        headers = dict(headers)
        if isinstance(call, StatusCall):
            content = self._get(rest_messages.model_path(call.model, label=call.label), headers, deadline)
            return StatusReply(sorted((int(v["version"]) for v in content.get("model_version_status", ())
                                       if v.get("state") == "AVAILABLE"), reverse=True))
        return self._predict(call, headers, deadline)

    def _predict(self, call: PredictCall, headers: dict, deadline: Deadline) -> PredictReply:
        wants = call.want_version and call.version is None
        version, signatures = self._metadata(call, headers, deadline, again=wants)
        key = call.signature or "serving_default"
        if key not in signatures and not wants:
            version, signatures = self._metadata(call, headers, deadline, again=True)
        if key not in signatures:
            raise InvalidRequest("INVALID_ARGUMENT", f'Serving signature name: "{key}" not found in signature def')
        # The version that the metadata are of is asked where the caller has to know which one answers.
        path = (rest_messages.model_path(call.model, version=version) if wants and version is not None else
                rest_messages.model_path(call.model, version=call.version, label=call.label))
        body = rest_messages.encode(call)
        if len(body) > self.options.max_message_bytes:
            raise Exhausted("RESOURCE_EXHAUSTED", f"The request requires at most {self.options.max_message_bytes} "
                            f"bytes, received {len(body)}. Send less, or raise max_message_bytes.")
        status, reply = self._http.request("POST", f"{self._prefix}{path}:predict", body=body,
                                           headers=headers | _JSON, deadline=deadline)
        outputs = rest_messages.read_outputs(rest_messages.parse(status, reply), signatures[key]["outputs"])
        return PredictReply(outputs, version if wants else call.version)

    def _metadata(self, call: PredictCall, headers: dict, deadline: Deadline, *, again: bool
                  ) -> tuple[int | None, dict]:
        """Version and signatures that a call means, read once in a while."""
        key = (call.model, call.version, call.label)
        known = self._signatures.get(key)
        if again or known is None or (call.version is None
                                      and time.monotonic() - known[2] > self.options.description_age):
            content = self._get(rest_messages.model_path(call.model, version=call.version, label=call.label)
                                + "/metadata", headers, deadline)
            version = content.get("model_spec", {}).get("version")
            signatures = content.get("metadata", {}).get("signature_def", {}).get("signature_def", {})
            known = (None if version in (None, "") else int(version), signatures, time.monotonic())
            self._signatures[key] = known
        return known[:2]

    def _get(self, path: str, headers: dict, deadline: Deadline) -> dict:
        status, body = self._http.request("GET", self._prefix + path, body=None, headers=headers, deadline=deadline)
        return rest_messages.parse(status, body)
