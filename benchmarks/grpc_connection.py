"""A gRPC connection that costs its process little: prepared frames out, frame heads in."""

import struct

from benchmarks.sockets import connect, receive

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# RFC 9113, section 6: types of frames, flags, and the setting of a stream's initial window.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4
_MOST_WINDOW, _FIRST_WINDOW, _MOST_FRAME = 2 ** 31 - 1, 65_535, 16_384


class GrpcConnection:
    """Unary calls to one method over a connection of its own, one after another.

    A load generator's client: what a caller's own gRPC library costs is not the server's. It speaks HTTP/2 (RFC 9113)
    and gRPC over it as far as that takes: no compression, no deadline but the socket's.

    Args:
      address: `host:port` of a server without TLS.
      method: as `/package.Service/Method`.

    Raises:
      OSError: if the connection fails.
    """

    def __init__(self, address: str, method: str):
        self._socket = connect(address)
        self._data, self._stream, self._reply = b"", -1, b""
        # What the server allows to be sent: in all, in a new stream, and in the present one.
        self._window = self._initial = self._left = _FIRST_WINDOW
        self._head = _header_block(address, method)
        self._socket.sendall(
            _PREFACE + _frame(_SETTINGS, 0, 0, struct.pack(">HI", _INITIAL_WINDOW_SIZE, _MOST_WINDOW))
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _MOST_WINDOW - _FIRST_WINDOW)))

    def send(self, message: bytes) -> None:
        """Begins a call with a serialized message; the one before must have ended."""
        self._stream += 2
        self._left, self._reply = self._initial, b""
        out = _frame(_HEADERS, _END_HEADERS, self._stream, self._head)
        body = b"\0" + len(message).to_bytes(4, "big") + message
        for begin in range(0, len(body), _MOST_FRAME):
            part = body[begin:begin + _MOST_FRAME]
            while min(self._window, self._left) < len(part):
                self._socket.sendall(out)
                out = b""
                self.receive()
            self._window -= len(part)
            self._left -= len(part)
            out += _frame(_DATA, _END_STREAM if begin + _MOST_FRAME >= len(body) else 0, self._stream, part)
        self._socket.sendall(out)

    def receive(self) -> bytes | None:
        """Reads what came, waiting for something; returns the reply's message once all of it is there.

        Raises:
          RuntimeError: if the call failed or the server closed the connection.
        """
        data, begin, ended = self._data + receive(self._socket), 0, False
        while len(data) >= begin + 9:
            size, kind, flags = int.from_bytes(data[begin:begin + 3], "big"), data[begin + 3], data[begin + 4]
            stream, payload = int.from_bytes(data[begin + 5:begin + 9], "big"), data[begin + 9:begin + 9 + size]
            if len(payload) < size:
                break
            begin += 9 + size
            if stream == self._stream and kind == _DATA:
                self._reply += payload
            elif stream == self._stream and kind == _HEADERS:
                if flags & _END_STREAM:
                    ended = True
                    # A call that fails has trailers alone.
                    if len(self._reply) < 5:
                        self._data = data[begin:]
                        raise RuntimeError(f"The call failed: {payload!r}.")
            else:
                self._take(kind, flags, stream, payload)
        self._data = data[begin:]
        return self._reply[5:] if ended else None

    def fileno(self) -> int:
        """Returns the socket's descriptor, for a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Does what a frame of the connection's own asks for."""
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _INITIAL_WINDOW_SIZE:
                    self._left += value - self._initial
                    self._initial = value
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == _WINDOW_UPDATE and stream == self._stream:
            self._left += int.from_bytes(payload, "big")
        elif kind in (_RST_STREAM, _GOAWAY):
            raise RuntimeError(f"The server ended the {'call' if kind == _RST_STREAM else 'connection'}: {payload!r}.")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _header_block(authority: str, method: str) -> bytes:
    """Returns a request's headers as HPACK writes them without a table of its own (RFC 7541, section 6.2.2)."""
    def text(value: str) -> bytes:
        encoded = value.encode("ascii")
        if len(encoded) > 126:
            raise ValueError(f"A header requires at most 126 characters, received {value!r}.")
        return bytes((len(encoded),)) + encoded

    # From the static table: `:method: POST`, `:scheme: http`, and the names `:path`, `:authority`, `content-type`.
    return (b"\x83\x86\x04" + text(method) + b"\x01" + text(authority) + b"\x0f\x10" + text("application/grpc")
            + b"\0" + text("te") + text("trailers"))
