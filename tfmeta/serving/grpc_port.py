"""The gRPC port of the embedded server: the thread that receives a request answers it."""

import collections
import concurrent.futures
import itertools
import logging
import threading
from collections.abc import Callable, Iterable

import grpc
from grpc._cython.cygrpc import CompletionQueue, CompletionType, Server

from tfmeta.serving.grpc_call import GrpcCall

_UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "The call requires the metadata 'authorization: Bearer TOKEN'")
_NO_METHOD = (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
_NO_HANDLER = (grpc.StatusCode.UNKNOWN, "Error in service handler!")
_FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
_LOG = logging.getLogger("tfmeta.serving")


class GrpcPort:
    """Has the methods of `grpc.Server` that `EmbeddedServer` needs, for unary methods.

    `grpc.server` has one thread that hears of everything and others that run methods: a call goes to and fro between
    them three times before its method begins, and `grpc.aio` hands each over between threads as well. Here every thread
    asks for events, and runs the method of the message that it has got, while others ask; one more thread than methods
    may run is there where it is needed, so that somebody always asks. It is built, as `grpc.server` is, on the
    library's `cygrpc`.

    Where methods return at once and answer later (they have the attribute `at_once`, see `LATER`), one thread that runs
    them takes less from whoever computes the answers than several that wait for Python's lock. `pool` is then for all
    other methods, which may take long.

    Args:
      threads: methods that may run at the same time. Further calls wait in order.
      pool: threads for methods that are not `at_once`; None runs those like any other.
      max_queued: calls beyond `threads` that may be without a reply; further ones are refused with RESOURCE_EXHAUSTED
        before their message is read.
      options: of the gRPC server.
      accepts: tells from a call's metadata, pairs of key and value, whether it is let in; others get UNAUTHENTICATED.
    """

    def __init__(self, *, threads: int, max_queued: int, options: list,
                 pool: concurrent.futures.Executor | None = None,
                 accepts: Callable[[Iterable[tuple[str, str | bytes]]], bool] | None = None):
        self._threads, self._most, self._accepts, self._pool = threads, threads + max_queued, accepts, pool
        self._services: list[grpc.GenericRpcHandler] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        # Threads, those of them that run a method, calls that may take one, and all calls of which the library holds
        # anything.
        self._workers = self._running = self._admitted = self._open = 0
        self._waiting: collections.deque[GrpcCall] = collections.deque()
        self._started = self._stopping = self._down = self._asked = False
        self._ended = threading.Event()
        self._events = CompletionQueue()
        self._server = Server(list(options), False)
        self._server.register_completion_queue(self._events)

    def add_generic_rpc_handlers(self, handlers) -> None:
        """Adds services, as `grpc.Server` has it."""
        self._services.extend(handlers)

    def add_insecure_port(self, address: str) -> int:
        """Opens `host:port`; returns the port, 0 if it cannot be opened."""
        return self._server.add_http2_port(address.encode())

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Opens `host:port` with TLS; returns the port, 0 if it cannot be opened."""
        return self._server.add_http2_port(address.encode(), credentials._credentials)

    def start(self) -> None:
        """Begins to take calls."""
        with self._lock:
            if self._started or self._stopping:
                raise RuntimeError("A port starts once, and not after it was stopped.")
            self._server.start()
            self._started = True
            self._ask()
            self._add_worker()

    def stop(self, grace: float | None) -> threading.Event:
        """Refuses new calls; the event is set when those in flight have ended, after `grace` seconds at the latest."""
        with self._lock:
            begun, self._stopping = self._stopping, True
            if not begun and self._started:
                self._server.shutdown(self._events, self._shut_down)
        if self._started:
            threading.Thread(target=self._cancel, args=(grace or 0.0,), daemon=True, name="grpc-stop").start()
        else:
            self._ended.set()
        return self._ended

    def _cancel(self, grace: float) -> None:
        if not self._ended.wait(grace):
            with self._lock:
                if not self._down:
                    self._server.cancel_all_calls()

    def _ask(self) -> None:
        """Asks for the next call; under the lock."""
        if not self._stopping:
            self._server.request_call(self._events, self._events, self._begin)
            self._asked = True

    def _add_worker(self) -> None:
        """Under the lock; RuntimeError if there can be no more threads."""
        threading.Thread(target=self._work, name=f"grpc_{next(self._numbers)}", daemon=True).start()
        self._workers += 1

    def _work(self) -> None:
        while True:
            event = self._events.poll()
            if event.completion_type == CompletionType.queue_shutdown:
                return
            call = self._guard(event.tag, event)
            # The library ends a call when nobody holds its events.
            event = None
            while call is not None:
                self._guard(call.run)
                call = self._next()

    @staticmethod
    def _guard(step: Callable, *arguments) -> GrpcCall | None:
        """One call's failure must not end the others."""
        try:
            return step(*arguments)
        except Exception:
            _LOG.exception("A call failed in the server itself")
            return None

    def _begin(self, event) -> None:
        """A client has called, or the port stops."""
        with self._lock:
            self._asked = False
            if not event.success:
                self._close()
                return
            self._open += 1
            self._ask()
        try:
            handler, refusal = self._admit(event)
        except Exception:
            _LOG.exception("A call could not be looked at")
            handler, refusal = None, _NO_HANDLER
        call = GrpcCall(event, handler, answered=_nothing if refusal else self._release, ended=self._end)
        if refusal:
            call.refuse(*refusal)
        else:
            call.receive(self._received)

    def _admit(self, event) -> tuple[grpc.RpcMethodHandler | None, tuple[grpc.StatusCode, str] | None]:
        """Returns the method that is called, and code and message if the call is refused."""
        details = _Details(event.call_details.method.decode("utf-8", "replace"), event.invocation_metadata)
        if self._accepts is not None and not self._accepts(details.invocation_metadata):
            return None, _UNAUTHENTICATED
        handler = next(filter(None, (s.service(details) for s in self._services)), None)
        if handler is None:
            return None, _NO_METHOD
        with self._lock:
            if self._admitted == self._most:
                return None, _FULL
            self._admitted += 1
        return handler, None

    def _release(self) -> None:
        """An admitted call has its reply; whether its client reads that is no other's concern."""
        with self._lock:
            self._admitted -= 1

    def _received(self, call: GrpcCall) -> GrpcCall | None:
        """The message of a call is there; returns the call if this thread is to run it."""
        if self._pool is not None and not call.at_once:
            call.watch()
            self._pool.submit(self._guard, call.run)
            return None
        with self._lock:
            if self._running == self._threads:
                call.watch()
                self._waiting.append(call)
                return None
            self._running += 1
            if self._running == self._workers:
                try:
                    self._add_worker()
                except RuntimeError:
                    _LOG.exception("Nobody listens for calls while one runs")
        return call

    def _next(self) -> GrpcCall | None:
        """Returns a call that has waited for a thread, or None when this one is to ask for events again."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._running -= 1
            return None

    def _end(self) -> None:
        with self._lock:
            self._open -= 1
            self._close()

    def _shut_down(self, event) -> None:
        """The last connection has gone; a method that has outlived its client may still run."""
        with self._lock:
            self._server.destroy()
            self._down = True
            self._close()
        self._ended.set()

    def _close(self) -> None:
        """Ends the threads once nothing can happen any more; under the lock."""
        if self._down and not self._open and not self._asked:
            # To send anything after this would end the process.
            self._events.shutdown()


def _nothing() -> None:
    pass


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str, metadata):
        self.method, self.invocation_metadata = method, metadata
