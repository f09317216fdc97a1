"""Plain connections of the benchmarks' clients."""

import socket


def connect(address: str) -> socket.socket:
    """Returns a connection to `host:port` that sends at once and waits for at most a minute."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host.strip("[]"), int(port)), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket) -> bytes:
    """Returns what came; RuntimeError if the connection has ended."""
    data = connection.recv(1 << 16)
    if not data:
        raise RuntimeError("The server closed the connection.")
    return data
