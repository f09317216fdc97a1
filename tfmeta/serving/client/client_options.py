"""How a client behaves."""

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from typing import Any

from tfmeta.config import require
from tfmeta.errors import ConfigError, suggest
from tfmeta.serving.client.keep_alive import KeepAlive
from tfmeta.serving.client.retry_policy import RetryPolicy
from tfmeta.serving.client.tls import Tls


@dataclasses.dataclass(frozen=True)
class ClientOptions:
    """Options of every client.

    Attributes:
      timeout: seconds that a call may take, its retries and chunks included, unless it names its own.
      retry: when a failed request is sent again.
      tls: certificates, or None for a connection in the clear.
      token: bearer token, or a function that returns the one valid now. It is sent over TLS and to this machine only.
      insecure_token: send the token over an unencrypted connection to another machine too.
      headers: further gRPC metadata or HTTP headers, such as `(("x-tenant", "a"),)`.
      keep_alive: pings of a gRPC connection, or None for none.
      telemetry: True for OpenTelemetry spans by the global tracer provider, or a tracer provider; False for none.
      max_message_bytes: largest request or reply.
      max_batch: rows (users) of a request; larger batches are sent as several. At most the server's `max_batch_size`,
        which is 16 in `serving_config/batching_parameters.txt`.
      max_candidates: candidates of a request; longer lists are sent as several.
      parallel: requests of one call that are under way at the same time.
      description_age: seconds after which the description of a model's latest version is read again.
    """

    timeout: float = 10.0
    retry: RetryPolicy = dataclasses.field(default_factory=RetryPolicy)
    tls: Tls | None = None
    token: str | Callable[[], str] | None = dataclasses.field(default=None, repr=False)
    insecure_token: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    keep_alive: KeepAlive | None = None
    telemetry: Any = False
    max_message_bytes: int = 64 << 20
    max_batch: int = 16
    max_candidates: int = 2048
    parallel: int = 4
    description_age: float = 300.0

    def __post_init__(self):
        require(self.timeout > 0, "timeout", "more than 0 seconds", self.timeout)
        require(self.description_age >= 0, "description_age", "seconds of at least 0", self.description_age)
        for name in ("max_message_bytes", "max_batch", "max_candidates", "parallel"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))

    def replace(self, **changes) -> "ClientOptions":
        """Returns the options with some changed; ConfigError on a name that is no option."""
        known = {f.name for f in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise ConfigError(f"Unknown client option '{name}'.{suggest(name, known)}")
        return dataclasses.replace(self, **changes)

    def check_token(self, address: str) -> None:
        """Raises ConfigError if the token would leave this machine unencrypted."""
        if self.token is not None and self.tls is None and not self.insecure_token and not is_loopback(address):
            raise ConfigError(f"A token requires TLS to '{address}', which is another machine, received none. Pass "
                              "tls=Tls(...), or insecure_token=True if the network is encrypted by other means.")

    def call_headers(self) -> list[tuple[str, str]]:
        """Returns what every request carries: the token and the further headers."""
        token = self.token() if callable(self.token) else self.token
        return [*([("authorization", f"Bearer {token}")] if token else []), *self.headers]


def is_loopback(address: str) -> bool:
    """Whether `host:port` (with or without a scheme) is this machine."""
    if address.startswith("unix:"):
        return True
    host = re.sub(r"^[a-z0-9+]+:/*", "", address) if re.match(r"[a-z0-9+]+:/|ipv[46]:", address) else address
    host = host.partition("/")[0]
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
