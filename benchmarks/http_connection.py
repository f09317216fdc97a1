"""An HTTP connection that costs its process little: prepared heads out, lengths in."""

from benchmarks.sockets import connect, receive


class HttpConnection:
    """POST requests to one path over a kept connection of its own, one after another.

    Args:
      address: `host:port` of a server without TLS.
      path: of the requests, from `/` on.

    Raises:
      OSError: if the connection fails.
    """

    def __init__(self, address: str, path: str):
        self._socket, self._data = connect(address), b""
        self._head = (f"POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
                      "Content-Length: ").encode("ascii")

    def send(self, body: bytes) -> None:
        """Begins a request; the reply to the one before must have been received."""
        self._data = b""
        self._socket.sendall(b"%s%d\r\n\r\n%s" % (self._head, len(body), body))

    def receive(self) -> bytes | None:
        """Reads what came, waiting for something; returns the reply's body once all of it is there.

        Raises:
          RuntimeError: if the status is not 200, the body is empty or the server closed the connection.
        """
        data = self._data = self._data + receive(self._socket)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = data[:end].lower()
        if len(data) < end + 4 + int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]):
            return None
        if not head.startswith(b"http/1.1 200 ") or len(data) == end + 4:
            raise RuntimeError(f"The server answered {data[:200]!r}.")
        return data[end + 4:]

    def fileno(self) -> int:
        """Returns the socket's descriptor, for a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()
