"""The gRPC port of a server that merges requests: one event loop instead of a thread for each request."""

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import Callable

import grpc

from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.lifecycle.loop_token_interceptor import LoopTokenInterceptor
from tfmeta.serving.lifecycle.malformed_request_interceptor import MalformedRequestInterceptor


class GrpcLoop:
    """Has the methods of `grpc.Server` that `EmbeddedServer` needs, on top of `grpc.aio`.

    Args:
      add_services: adds the servicers: `(server, loop, pool)`, called on the loop. Methods that are no coroutines run
        in the pool.
      threads: of the pool.
      max_queued: calls beyond `threads` that may be open; further ones are refused with RESOURCE_EXHAUSTED.
      options: of the gRPC server.
      token: what callers must send, or None.
    """

    def __init__(self, add_services: Callable, *, threads: int, max_queued: int, options: list,
                 token: BearerToken | None):
        self._loop = _event_loop()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="predict")

        async def make():
            checks = [LoopTokenInterceptor(token)] if token else []
            server = grpc.aio.server(
                self._pool, interceptors=[*checks, MalformedRequestInterceptor()], options=options,
                maximum_concurrent_rpcs=threads + max_queued)
            add_services(server, self._loop, self._pool)
            return server

        self._server = self._call(make())

    def add_insecure_port(self, address: str) -> int:
        return self._call(self._add_port(self._server.add_insecure_port, address))

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        return self._call(self._add_port(self._server.add_secure_port, address, credentials))

    def start(self) -> None:
        self._call(self._server.start())

    def stop(self, grace: float | None) -> threading.Event:
        """Refuses new calls; the event is set when those in flight have ended, after `grace` seconds at the latest."""
        ended = threading.Event()

        def close(_) -> None:
            self._pool.shutdown(wait=False)
            ended.set()

        asyncio.run_coroutine_threadsafe(self._server.stop(grace), self._loop).add_done_callback(close)
        return ended

    async def _add_port(self, add: Callable[..., int], *arguments) -> int:
        return add(*arguments)

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    """One for the process: `grpc.aio` has one queue of events, over which several loops would quarrel."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="grpc-loop", daemon=True).start()
    return loop
