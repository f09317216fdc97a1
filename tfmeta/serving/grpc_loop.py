"""The gRPC port of a server that merges requests: one event loop instead of a thread for each request."""

import asyncio
import concurrent.futures
import functools
import socket
import threading
from collections.abc import Callable

import grpc

from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.lifecycle.loop_handlers import LoopHandlers
from tfmeta.serving.lifecycle.loop_token_interceptor import LoopTokenInterceptor

# A server of `grpc.aio` takes up one call after another, each after a way through another thread, so that one alone
# keeps the loop waiting. For 32 connections eight are no better than four.
_LISTENERS = 4 if hasattr(socket, "SO_REUSEPORT") else 1


class GrpcLoop:
    """Has the methods of `grpc.Server` that `EmbeddedServer` needs, on top of `grpc.aio`.

    Several servers of the library share the port, between which the kernel distributes connections.

    Args:
      add_services: adds the servicers: `(server, loop, pool)`. Methods that are no coroutines run in the pool.
      threads: of the pool.
      max_queued: calls beyond `threads` that may be open; further ones are refused with RESOURCE_EXHAUSTED.
      options: of the gRPC servers.
      token: what callers must send, or None.
    """

    def __init__(self, add_services: Callable, *, threads: int, max_queued: int, options: list,
                 token: BearerToken | None):
        self._loop = _event_loop()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="predict")
        most = threads + max_queued
        handlers = LoopHandlers(most)
        add_services(handlers, self._loop, self._pool)

        async def make():
            # Each has the limit as well, for calls whose message has not come yet.
            return [grpc.aio.server(self._pool, handlers=(handlers,),
                                    interceptors=[LoopTokenInterceptor(token)] if token else [],
                                    options=[*options, ("grpc.so_reuseport", 1)], maximum_concurrent_rpcs=most)
                    for _ in range(_LISTENERS)]

        self._servers = self._call(make())

    def add_insecure_port(self, address: str) -> int:
        return self._add_port(address, lambda server, address: server.add_insecure_port(address))

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        return self._add_port(address, lambda server, address: server.add_secure_port(address, credentials))

    def start(self) -> None:
        self._call(self._each(lambda server: server.start()))

    def stop(self, grace: float | None) -> threading.Event:
        """Refuses new calls; the event is set when those in flight have ended, after `grace` seconds at the latest."""
        ended = threading.Event()

        def close(_) -> None:
            self._pool.shutdown(wait=False)
            ended.set()

        asyncio.run_coroutine_threadsafe(
            self._each(lambda server: server.stop(grace)), self._loop).add_done_callback(close)
        return ended

    async def _each(self, step: Callable) -> None:
        await asyncio.gather(*map(step, self._servers))

    def _add_port(self, address: str, add: Callable[[grpc.aio.Server, str], int]) -> int:
        host, _, port = address.rpartition(":")
        if int(port):
            _require_free(host.strip("[]"), int(port))

        async def open_ports() -> int:
            number = int(port)
            for server in self._servers:
                number = add(server, f"{host}:{number}")
            return number

        return self._call(open_ports())

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One for the process: `grpc.aio` has one queue of events, over which several loops would quarrel."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="grpc-loop", daemon=True).start()
    return loop


def _require_free(host: str, port: int) -> None:
    """Raises RuntimeError if a process listens on a port, which one that shares its own would not notice."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise RuntimeError(f"Port {port} of {host} cannot be opened: {error}") from None
