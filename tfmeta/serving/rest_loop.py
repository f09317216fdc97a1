"""One thread that reads the requests of many REST connections, so that merged requests cost few hand-overs."""

import collections
import contextlib
import logging
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from tfmeta.serving.rest_api import RestApi
from tfmeta.serving.rest_reply import RestReply

# Of a request that is read here: its head, and its body.
_MOST_HEAD, _MOST_BODY = 16 << 10, 256 << 10
_MOST_HEADERS = 100
_LINE = re.compile(rb"POST ([!-~]+) HTTP/1\.1")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Headers that change how a message is read or answered; a connection with one is not read here.
_SPECIAL = frozenset((b"connection", b"expect", b"transfer-encoding", b"upgrade", b"authorization"))
_LOG = logging.getLogger("tfmeta.serving")


class _Owner(Protocol):
    """The HTTP server whose connections are read."""

    stopping: bool

    def mark(self, connection: socket.socket, busy: bool) -> None:
        """Is told when a connection begins and ends a request."""

    def hand_over(self, connection: socket.socket, address, data: bytes) -> None:
        """Takes a connection back, with what was read of its next request."""

    def closed(self, connection: socket.socket) -> None:
        """Is told that a connection was closed here."""


class RestLoop:
    """Reads predict requests from plain connections and answers them as their batches end.

    A thread for each connection has to be woken three times a request, to read it, to go on once its batch has run and
    after sending, and each time waits for Python's lock. Here one thread reads and sends for all connections, and the
    thread that runs a batch encodes all its replies.

    What it reads is small and plain: `POST`, `:predict`, a Content-Length, no header that changes how the
    message is read, a model whose requests are merged. A connection that sends anything else is handed over to a
    thread of its own with what it sent, for good.

    Args:
      api: answers requests.
      owner: of the connections.
      head: makes the status line and headers of a reply: `(reply, closes) -> bytes`.
      max_body_bytes: larger bodies are left to the owner.
      patience: seconds without a byte after which a connection is given up.
    """

    def __init__(self, api: RestApi, owner: _Owner, *, head: Callable[..., bytes], max_body_bytes: int,
                 patience: float):
        self._api, self._owner, self._head = api, owner, head
        self._most_body, self._patience = min(max_body_bytes, _MOST_BODY), patience
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._new: collections.deque = collections.deque()
        self._replies: collections.deque = collections.deque()
        self._bell, self._ear = socket.socketpair()
        for end in (self._bell, self._ear):
            end.setblocking(False)
        self._rung, self._ended = False, False
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="rest-loop", daemon=True)
        self._thread.start()

    def add(self, connection: socket.socket, address) -> None:
        """Reads a connection from now on."""
        connection.setblocking(False)
        self._new.append(_Connection(connection, address))
        self._ring()

    def stop(self) -> None:
        """Ends the thread; connections that are still there are closed."""
        self._ended = True
        self._ring()
        self._thread.join()
        for end in (self._bell, self._ear):
            end.close()
        self._selector.close()

    def _ring(self) -> None:
        """Wakes the thread; once is enough until it has woken."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(OSError):
                self._bell.send(b"x")

    def _run(self) -> None:
        swept = time.monotonic()
        while not self._ended:
            for key, events in self._selector.select(timeout=1.0):
                if key.data is None:
                    with contextlib.suppress(OSError):
                        self._ear.recv(64)
                    # Before the queues are looked at: what comes later rings again.
                    self._rung = False
                else:
                    self._guard(self._write if events & selectors.EVENT_WRITE else self._read, key.data)
            while self._new:
                connection = self._new.popleft()
                self._connections.add(connection)
                self._guard(self._listen, connection)
            while self._replies:
                self._guard(self._reply, *self._replies.popleft())
            if time.monotonic() - swept > 1.0:
                swept = time.monotonic()
                for connection in [c for c in self._connections
                                   if not c.busy and swept - c.last > self._patience]:
                    self._close(connection)
        for connection in list(self._connections):
            self._close(connection)

    def _guard(self, step: Callable, connection: "_Connection", *more) -> None:
        """What goes wrong with one connection must not end the others'."""
        try:
            step(connection, *more)
        except OSError:
            self._close(connection)
        except Exception:
            _LOG.exception("A connection failed in the server itself")
            self._close(connection)

    def _listen(self, connection: "_Connection", events: int = selectors.EVENT_READ) -> None:
        if connection.events != events:
            (self._selector.modify if connection.events else self._selector.register)(
                connection.socket, events, connection)
            connection.events = events

    def _forget(self, connection: "_Connection") -> None:
        if connection.events:
            self._selector.unregister(connection.socket)
            connection.events = 0

    def _read(self, connection: "_Connection") -> None:
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return
        if not data:
            if connection.busy:
                # It may still read the reply.
                connection.closes = True
                self._forget(connection)
            else:
                self._close(connection)
            return
        connection.last = time.monotonic()
        connection.data += data
        if not connection.busy:
            self._next(connection)
        elif len(connection.data) > self._most_body:
            self._forget(connection)  # until its reply is sent

    def _next(self, connection: "_Connection") -> None:
        """Begins the next request if all of it is there."""
        data = connection.data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _MOST_HEAD or not b"POST ".startswith(data[:5]):
                self._hand_over(connection)
            return
        found = plain_predict(bytes(data[:end]))
        if found is None or found[1] > self._most_body:
            self._hand_over(connection)
            return
        path, size = found
        begin, stop = end + 4, end + 4 + size
        if len(data) < stop:
            return
        connection.busy = True
        self._owner.mark(connection.socket, True)
        if self._api.begin(path, bytes(data[begin:stop]), lambda reply: self._answered(connection, reply)):
            del data[:stop]
        else:
            connection.busy = False
            self._hand_over(connection)

    def _answered(self, connection: "_Connection", reply: RestReply) -> None:
        """Comes from any thread."""
        self._replies.append((connection, reply))
        self._ring()

    def _reply(self, connection: "_Connection", reply: RestReply) -> None:
        connection.closes |= self._owner.stopping
        connection.out = memoryview(self._head(reply, closes=connection.closes) + reply.body)
        self._write(connection)

    def _write(self, connection: "_Connection") -> None:
        try:
            sent = connection.socket.send(connection.out)
        except BlockingIOError:
            sent = 0
        connection.out = connection.out[sent:]
        connection.last = time.monotonic()
        if connection.out:
            connection.busy = False  # The sweep gives up a client that does not read.
            self._listen(connection, selectors.EVENT_WRITE)
            return
        connection.busy = False
        self._owner.mark(connection.socket, False)
        if connection.closes or self._owner.stopping:
            self._close(connection)
            return
        self._listen(connection)
        if connection.data:
            self._next(connection)

    def _hand_over(self, connection: "_Connection") -> None:
        self._forget(connection)
        self._connections.discard(connection)
        self._owner.hand_over(connection.socket, connection.address, bytes(connection.data))

    def _close(self, connection: "_Connection") -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._forget(connection)
        with contextlib.suppress(OSError):
            connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.close()
        self._owner.closed(connection.socket)


class _Connection:
    __slots__ = ("address", "busy", "closes", "data", "events", "last", "out", "socket")

    def __init__(self, connection: socket.socket, address):
        self.socket, self.address = connection, address
        self.data, self.out = bytearray(), memoryview(b"")
        # Within a request; to be closed after it; what the selector waits for; the time of the last byte.
        self.busy, self.closes, self.events, self.last = False, False, 0, time.monotonic()


def plain_predict(head: bytes) -> tuple[str, int] | None:
    """Returns target and Content-Length of a request's head, or None for one that needs more than that to be read."""
    line, *headers = head.split(b"\r\n")
    found = _LINE.fullmatch(line)
    if found is None or len(headers) > _MOST_HEADERS:
        return None
    size = None
    for header in headers:
        name, sign, value = header.partition(b":")
        if not sign or not _NAME.fullmatch(name) or (name := name.lower()) in _SPECIAL:
            return None
        if name == b"content-length":
            value = value.strip(b" \t")
            if size is not None or not value.isdigit() or len(value) > 12:
                return None
            size = int(value)
    return None if size is None else (found[1].decode("ascii"), size)
