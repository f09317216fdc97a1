"""HTTP for the REST API: connections, limits, TLS and the token."""

import email.utils
import http
import http.server
import io
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable

from tfmeta.errors import ServingError
from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.rest_api import HEALTH_PATH, RestApi
from tfmeta.serving.rest_loop import RestLoop
from tfmeta.serving.rest_reply import RestReply
from tfmeta.serving.server_metrics import ServerMetrics

# Seconds without a byte after which a connection is given up.
_PATIENCE = 30.0
# Of a refused body, so that the client reads the refusal instead of seeing its connection break.
_DRAIN_BYTES, _DRAIN_SECONDS = 256 << 20, 5.0
_LOG = logging.getLogger("tfmeta.serving")


class RestService:
    """Answers HTTP/1.1 requests on a port of its own; a connection stays open and has a thread.

    With `merged`, predict requests are read by one thread for all connections (`RestLoop`).

    Args:
      manager: the loaded models.
      host, port: to bind; port 0 picks a free one.
      threads, max_queued, metrics, pages: as `RestApi`.
      max_body_bytes: largest request body.
      max_connections: open at the same time; further ones are told so and closed.
      token: what callers must send, except for `/healthz` and `open_paths`; None asks for none.
      ssl_context: of TLS; None speaks plain HTTP.
      merged: whether models merge requests. Has no effect with TLS or a token.
      open_paths: further paths whose GET needs no token; a browser sends none before its page can ask for one.

    Attributes:
      address: `host:port`.

    Raises:
      ServingError: if the port is taken.
    """

    def __init__(self, manager: ModelManager, *, host: str, port: int, threads: int, max_body_bytes: int,
                 max_queued: int = 256, max_connections: int = 512, metrics: ServerMetrics | None = None,
                 token: BearerToken | None = None, ssl_context: ssl.SSLContext | None = None,
                 pages: Callable[[str, str, bytes], RestReply | None] | None = None,
                 open_paths: tuple[str, ...] = (), merged: bool = False):
        api = RestApi(manager, threads=threads, max_queued=max_queued, metrics=metrics, pages=pages)
        try:
            self._server = _Server((host, port), api, max_body_bytes=max_body_bytes, token=token,
                                   max_connections=max_connections, ssl_context=ssl_context,
                                   open_paths=(HEALTH_PATH, *open_paths), merged=merged)
        except OSError as error:
            raise ServingError(f"Port {port} of {host} cannot be opened: {error.strerror}. Choose another one, or "
                               "0 for any free port.") from None
        self.address = f"{f'[{host}]' if ':' in host else host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="rest",
                                        daemon=True)
        self._thread.start()

    def stop(self, *, grace: float = 10.0) -> None:
        """Refuses new connections and waits up to `grace` seconds for requests in flight."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.finish(grace)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address, api: RestApi, *, max_body_bytes: int, max_connections: int,
                 token: BearerToken | None, ssl_context: ssl.SSLContext | None, open_paths: tuple[str, ...],
                 merged: bool):
        self.open_paths = open_paths
        self.api, self.max_body_bytes, self.token, self._ssl = api, max_body_bytes, token, ssl_context
        self.stopping = False
        self._free = threading.Semaphore(max_connections)
        # Open connections, and whether they are within a request.
        self._changed = threading.Condition()
        self._busy: dict[socket.socket, bool] = {}
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        # Of connections that the loop has handed over: what it had read.
        self.read_before: dict[socket.socket, bytes] = {}
        self._loop: RestLoop | None = None
        super().__init__(address, _Handler)
        if merged and token is None and ssl_context is None:
            self._loop = RestLoop(api, self, head=_head, max_body_bytes=max_body_bytes, patience=_PATIENCE)

    def server_bind(self):
        # Without the look-up of the host's name that HTTPServer does.
        socket.socket.setsockopt(self.socket, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def get_request(self):
        connection, address = super().get_request()
        connection.settimeout(_PATIENCE)
        if self._ssl is not None:
            # The handshake comes in the connection's own thread.
            connection = self._ssl.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request, client_address):
        if not self._free.acquire(blocking=False):
            if self._ssl is None:
                reply = RestReply.error("Too many connections", status=429)
                request.settimeout(0)
                try:
                    request.send(_head(reply, closes=True) + reply.body)
                    request.recv(65536)
                except OSError:
                    pass
            self.shutdown_request(request)
            return
        with self._changed:
            self._busy[request] = False
        if self._loop is not None:
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._loop.add(request, client_address)
        else:
            super().process_request(request, client_address)

    def hand_over(self, connection: socket.socket, address, data: bytes) -> None:
        connection.settimeout(_PATIENCE)
        self.read_before[connection] = data
        super().process_request(connection, address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.closed(request)

    def closed(self, connection: socket.socket) -> None:
        with self._changed:
            del self._busy[connection]
            self._changed.notify_all()
        self._free.release()

    def mark(self, request, busy: bool) -> None:
        with self._changed:
            self._busy[request] = busy

    def finish(self, grace: float) -> None:
        """Closes connections: idle ones at once, others after their request, all of them after `grace` seconds."""
        deadline = time.monotonic() + grace
        with self._changed:
            self.stopping = True
            self._break([c for c, busy in self._busy.items() if not busy], socket.SHUT_RD)
            while self._busy and self._changed.wait_for(lambda: not self._busy, max(0.0, deadline - time.monotonic())):
                pass
            self._break(list(self._busy), socket.SHUT_RDWR)
        if self._loop is not None:
            self._loop.stop()

    @staticmethod
    def _break(connections, how: int) -> None:
        for connection in connections:
            try:
                socket.socket.shutdown(connection, how)
            except OSError:
                continue

    def handle_error(self, request, client_address):
        # A client that went away, or spoke no TLS, is no error of the server.
        _LOG.debug("A connection from %s broke", client_address, exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _PATIENCE
    server: _Server

    def setup(self):
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()
        super().setup()
        if data := self.server.read_before.pop(self.request, b""):
            self.rfile.close()
            self.rfile = io.BufferedReader(_ReadBefore(data, self.connection.makefile("rb", buffering=0)))

    def handle_one_request(self):
        if self.server.stopping:
            self.close_connection = True
            return
        super().handle_one_request()
        self.server.mark(self.request, False)

    def parse_request(self):
        self.server.mark(self.request, True)
        return super().parse_request()

    def __getattr__(self, name):
        # Every method is answered, as the stock server does.
        if name.startswith("do_"):
            return self._request
        raise AttributeError(name)

    def _request(self):
        token = self.server.token
        if token is not None and not token.accepts(self.headers.get("Authorization")) and not (
                self.command in ("GET", "HEAD") and self.path.split("?", 1)[0] in self.server.open_paths):
            self._refuse(401, "The request requires the header 'Authorization: Bearer TOKEN'")
            return
        size = self._body_size()
        if size is not None:
            self._reply(self.server.api.answer(self.command, self.path, self.rfile.read(size) if size else b""))

    def _body_size(self) -> int | None:
        """Returns the length of the body, None after refusing it."""
        lengths = self.headers.get_all("Content-Length", [])
        if self.headers.get("Transfer-Encoding"):
            self._refuse(411, "The request requires a Content-Length; transfer encodings are not supported.")
        elif not lengths and self.command == "POST":
            self._refuse(411, "The request requires a Content-Length.")
        elif len(set(lengths)) > 1 or not all(n.isascii() and n.isdigit() and len(n) < 19 for n in lengths):
            self._refuse(400, "The Content-Length requires one number.")
        elif lengths and int(lengths[0]) > self.server.max_body_bytes:
            self._refuse(413, f"The body requires at most {self.server.max_body_bytes} bytes, received {lengths[0]}.")
        else:
            return int(lengths[0]) if lengths else 0
        return None

    def _reply(self, reply: RestReply) -> None:
        if self.server.stopping:
            self.close_connection = True
        data = _head(reply, closes=self.close_connection)
        self.wfile.write(data if self.command == "HEAD" else data + reply.body)

    def _refuse(self, status: int, message: str) -> None:
        """Answers without reading the body, and closes the connection in a way that lets the answer arrive."""
        self.close_connection = True
        self._reply(RestReply.error(message, status=status))
        deadline, left = time.monotonic() + _DRAIN_SECONDS, _DRAIN_BYTES
        self.connection.settimeout(1.0)
        try:
            if not isinstance(self.connection, ssl.SSLSocket):
                self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and time.monotonic() < deadline:
                data = self.rfile.read1(1 << 16)
                if not data:
                    break
                left -= len(data)
        except OSError:
            pass

    def send_error(self, code, message=None, explain=None):
        """Answers what is no HTTP, in JSON too."""
        self.command = getattr(self, "command", None)
        self._refuse(int(code), message or http.HTTPStatus(code).phrase)

    def log_message(self, format, *args):
        """Requests are not logged, as the gRPC side does not."""


class _ReadBefore(io.RawIOBase):
    """A connection's bytes, the first of which were read already."""

    def __init__(self, data: bytes, rest: io.RawIOBase):
        self._data, self._rest = data, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        if not self._data:
            return self._rest.readinto(buffer)
        size = min(len(buffer), len(self._data))
        buffer[:size], self._data = self._data[:size], self._data[size:]
        return size

    def close(self) -> None:
        self._rest.close()
        super().close()


def _head(reply: RestReply, *, closes: bool) -> bytes:
    try:
        phrase = http.HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = "Error"
    challenge = "WWW-Authenticate: Bearer\r\n" if reply.status == 401 else ""
    further = "".join(f"{name}: {value}\r\n" for name, value in reply.headers)
    return (f"HTTP/1.1 {reply.status} {phrase}\r\nContent-Type: {reply.content_type}\r\n"
            f"Content-Length: {len(reply.body)}\r\nDate: {email.utils.formatdate(usegmt=True)}\r\n{challenge}{further}"
            f"Connection: {'close' if closes else 'keep-alive'}\r\n\r\n").encode("latin-1", "replace")
