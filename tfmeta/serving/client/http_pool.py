"""Connections to one HTTP server that are kept open between requests."""

import collections
import contextlib
import http.client
import socket
import ssl

from tfmeta.serving.client.deadline import Deadline
from tfmeta.serving.client.errors import DeadlineExceeded, Exhausted, Unavailable
from tfmeta.serving.client.tls import Tls

_PIECE = 1 << 16


class HttpPool:
    """Sends requests over connections of its own, one request at a time on each; safe from many threads.

    The standard library's client is enough here: one host, JSON bodies, no redirects, no cookies.

    Args:
      host, port: of the server.
      tls: certificates, or None for a connection in the clear.
      idle: connections kept open at most.
      max_bytes: largest reply.
    """

    def __init__(self, host: str, port: int, *, tls: Tls | None, idle: int, max_bytes: int):
        self._host, self._port, self._max_bytes = host, port, max_bytes
        self._tls, self._context = tls, tls.ssl_context() if tls else None
        # The one used last is used first, so that those of a burst age and the server closes them.
        self._idle: collections.deque[http.client.HTTPConnection] = collections.deque(maxlen=idle)

    def request(self, method: str, path: str, *, body: bytes | None, headers: dict[str, str], deadline: Deadline
                ) -> tuple[int, bytes]:
        """Returns (HTTP status, body).

        Raises:
          Unavailable: if the server cannot be reached or breaks off.
          DeadlineExceeded: if it does not answer in time.
          Exhausted: if its reply is too large.
        """
        while True:
            try:
                connection, kept = self._idle.pop(), True
            except IndexError:
                connection, kept = self._connect(deadline), False
            try:
                return self._exchange(connection, method, path, body, headers, deadline)
            except TimeoutError:
                connection.close()
                raise DeadlineExceeded("DEADLINE_EXCEEDED",
                                       f"{self._host}:{self._port} did not answer in the time left.") from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # A server closes idle connections when it likes, which shows only when the next request is sent.
                if not (kept and isinstance(error, ConnectionError | ssl.SSLError)):
                    raise self._unavailable(error) from None
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Closes all idle connections."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connect(self, deadline: Deadline) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=deadline.remaining())
        try:
            connection.connect()
            if self._context is not None:
                connection.sock.settimeout(deadline.remaining())
                connection.sock = self._context.wrap_socket(connection.sock,
                                                            server_hostname=self._tls.server_name or self._host)
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            connection.close()
            raise DeadlineExceeded("DEADLINE_EXCEEDED",
                                   f"{self._host}:{self._port} took no connection in the time left.") from None
        except OSError as error:
            connection.close()
            raise self._unavailable(error) from None
        return connection

    def _exchange(self, connection, method, path, body, headers, deadline) -> tuple[int, bytes]:
        sock = connection.sock
        sock.settimeout(deadline.remaining())
        connection.request(method, path, body=body, headers=headers)
        sock.settimeout(deadline.remaining())
        response = connection.getresponse()
        pieces, size = [], 0
        while True:
            sock.settimeout(deadline.remaining())
            piece = response.read1(_PIECE)
            if not piece:
                break
            size += len(piece)
            if size > self._max_bytes:
                raise Exhausted("RESOURCE_EXHAUSTED", f"The reply requires at most {self._max_bytes} bytes, received "
                                "more. Ask for less, or raise max_message_bytes.")
            pieces.append(piece)
        if response.length:  # A connection that ends early is an error, as a short body would be.
            raise http.client.IncompleteRead(b"", response.length)
        response.close()
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, b"".join(pieces)

    def _unavailable(self, error: Exception) -> Unavailable:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unavailable("UNAVAILABLE", f"failed to connect to {self._host}:{self._port}: {text}")
