"""Pings that keep a gRPC connection open."""

import dataclasses

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class KeepAlive:
    """HTTP/2 pings, so that a dead connection is found before the next request, and idle ones pass load balancers.

    A server closes connections that ping more often than it allows: by default every 300 s while nothing is sent.

    Attributes:
      time: seconds between pings.
      timeout: seconds to wait for the answer to a ping.
      without_calls: ping while no request is under way.
    """

    time: float = 300.0
    timeout: float = 20.0
    without_calls: bool = False

    def __post_init__(self):
        require(self.time >= 1, "keep_alive.time", "at least 1 second", self.time)
        require(self.timeout > 0, "keep_alive.timeout", "more than 0 seconds", self.timeout)

    def grpc_options(self) -> list[tuple[str, int]]:
        """Returns channel options."""
        return [("grpc.keepalive_time_ms", round(1000 * self.time)),
                ("grpc.keepalive_timeout_ms", round(1000 * self.timeout)),
                ("grpc.keepalive_permit_without_calls", int(self.without_calls)),
                ("grpc.http2.max_pings_without_data", 0)]
