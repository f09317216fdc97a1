"""The gRPC port: who runs what, what is refused, and what becomes of calls when it stops."""

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import grpc
import pytest

from tfmeta.serving.grpc_call import LATER
from tfmeta.serving.grpc_port import GrpcPort

THREADS, QUEUED = 2, 3
LIMIT = THREADS + QUEUED
METHOD = "/e.E/Echo"


class _Echo(grpc.GenericRpcHandler):
    """Answers with the message backwards; `hold` and `later` wait for `go`, `hold` in the thread that received it."""

    def __init__(self):
        self.entered, self.go = threading.Semaphore(0), threading.Event()
        self.calls = collections.Counter()

    def service(self, handler_call_details):
        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(self._answer, request_deserializer=self._read,
                                                   response_serializer=self._write)

    def _answer(self, message, context):
        self.calls[message] += 1
        if message == b"remaining":
            return context.time_remaining()
        if message == b"metadata":
            return dict(context.invocation_metadata())["a"].encode()
        if message == b"refuse":
            context.abort(grpc.StatusCode.NOT_FOUND, "not here")
        if message == b"not written":
            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            context.set_details("later perhaps")
            raise NotImplementedError
        if message == b"break":
            raise ValueError("broken")
        if message == b"surrogate":
            context.abort(grpc.StatusCode.NOT_FOUND, "a\udcff")
        if message.startswith(b"long"):
            context.abort(grpc.StatusCode.NOT_FOUND, message[4:].decode() * 100_000)
        if message == b"exit":
            raise SystemExit(3)
        if message.startswith((b"hold", b"later")):
            self.entered.release()
        if message.startswith(b"later"):
            threading.Thread(target=lambda: self.go.wait(20) and context.answer(message[::-1])).start()
            return LATER
        if message.startswith(b"hold"):
            assert self.go.wait(20)
        return message[::-1]

    @staticmethod
    def _read(data):
        if data == b"bad":
            raise ValueError("no message")
        return data

    @staticmethod
    def _write(value):
        return value if isinstance(value, bytes) else repr(value).encode()


class _Port:
    def __init__(self, echo=None, **options):
        self.echo = echo or _Echo()
        self.port = GrpcPort(**{"threads": THREADS, "max_queued": QUEUED, "options": [], **options})
        self.port.add_generic_rpc_handlers((self.echo,))
        number = self.port.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{number}"
        self.port.start()
        self.channels = contextlib.ExitStack()
        self.calls = [self.channels.enter_context(grpc.insecure_channel(
            self.address, options=[("grpc.use_local_subchannel_pool", 1)])).unary_unary(METHOD)
            for _ in range(3)]

    def ask(self, message, connection=0, **options):
        return self.calls[connection](message, **{"timeout": 20, **options})

    def begin(self, message, connection=0, **options):
        return self.calls[connection].future(message, **{"timeout": 20, **options})

    def close(self):
        self.echo.go.set()
        assert self.port.stop(5).wait(20)
        self.channels.close()


@pytest.fixture
def port():
    made = _Port()
    yield made
    made.close()


def code(ask, *arguments, **options):
    with pytest.raises(grpc.RpcError) as caught:
        ask(*arguments, **options)
    return caught.value.code().name, caught.value.details()


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_call_is_answered_with_what_its_method_is_told(port):
    assert port.ask(b"ab") == b"ba" and port.ask(b"") == b""
    assert port.ask(b"metadata", metadata=(("a", "b"),)) == b"b"
    assert port.ask(b"remaining", timeout=None) == b"None"
    assert 5 < float(port.ask(b"remaining", timeout=10)) < 11  # The library rounds up.
    assert port.ask(b"z" * 3_000_000) == b"z" * 3_000_000


def test_refusals_are_the_methods_own_or_those_of_the_library(port):
    for _ in range(2 * LIMIT):  # None of them stays counted.
        assert code(port.ask, b"refuse") == ("NOT_FOUND", "not here")
        assert code(port.ask, b"not written") == ("UNIMPLEMENTED", "later perhaps")
        assert code(port.ask, b"break") == ("UNKNOWN", "Exception calling application: broken")
        assert code(port.ask, b"bad") == ("INTERNAL", "Exception deserializing request!")
        assert code(port.ask, b"surrogate") == ("NOT_FOUND", "a?")
        assert code(port.ask, b"exit") == ("UNKNOWN", "Exception calling application: 3")
    assert port.ask(b"ab") == b"ba"


@pytest.mark.parametrize("letter", ["a", "\u2028", "é", "%", "\x00"])
def test_messages_fit_into_a_header(port, letter):
    name, details = code(port.ask, b"long" + letter.encode())
    assert name == "NOT_FOUND" and details.startswith(100 * letter)
    assert details.endswith(f"... ({100_000 * len(letter.encode())} bytes)") and len(urllib.parse.quote(details)) < 8000


def test_a_reply_that_cannot_be_written_and_a_method_that_is_not_there(port, monkeypatch):
    def fail(value):
        raise ValueError("no reply")

    with monkeypatch.context() as patch:
        patch.setattr(_Echo, "_write", staticmethod(fail))
        assert code(port.ask, b"ab") == ("INTERNAL", "Failed to serialize response!")
        patch.setattr(port.echo, "service", lambda details: None)
        assert code(port.ask, b"ab") == ("UNIMPLEMENTED", "Method not found!")
        patch.setattr(port.echo, "service", fail)
        for _ in range(2 * LIMIT):
            assert code(port.ask, b"ab") == ("UNKNOWN", "Error in service handler!")
    assert port.ask(b"ab") == b"ba"


@pytest.mark.parametrize("kind", [b"hold", b"later"])
def test_the_limit_counts_open_calls_of_all_connections(port, kind):
    held = [port.begin(kind, n % 3) for n in range(LIMIT)]
    # Those that are answered later hold no thread, so all of them have begun.
    for _ in range(THREADS if kind == b"hold" else LIMIT):
        assert port.echo.entered.acquire(timeout=20)
    until(lambda: port.port._open == LIMIT)
    for connection in range(3):
        assert code(port.ask, b"ab", connection) == ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
    assert port.echo.calls[kind] == (THREADS if kind == b"hold" else LIMIT)
    port.echo.go.set()
    assert [h.result() for h in held] == [kind[::-1]] * LIMIT
    until(lambda: port.port._open == 0)
    assert port.ask(b"ab") == b"ba"


def test_a_call_whose_client_has_gone_while_it_waited_is_not_run(port):
    held = [port.begin(b"hold") for _ in range(THREADS)]
    for _ in held:
        assert port.echo.entered.acquire(timeout=20)
    waiting = [port.begin(b"waits"), port.begin(b"stays", 1)]
    until(lambda: len(port.port._waiting) == 2)
    waiting[0].cancel()
    until(lambda: any(call.gone for call in port.port._waiting))
    port.echo.go.set()
    assert waiting[1].result() == b"syats" and [h.result() for h in held] == [b"dloh"] * THREADS
    assert port.echo.calls[b"waits"] == 0
    until(lambda: port.port._open == 0)


def test_with_a_pool_long_methods_keep_nobody_from_those_that_return_at_once():
    class Both(_Echo):
        def service(self, handler_call_details):
            found = super().service(handler_call_details)
            if found is None and handler_call_details.method == "/e.E/AtOnce":
                found = grpc.unary_unary_rpc_method_handler(self.reverse, request_deserializer=bytes,
                                                            response_serializer=bytes)
            return found

        def reverse(self, message, context):
            threads.add(threading.current_thread().name)
            context.answer(message[::-1])
            return LATER

        reverse.at_once = True

    threads: set[str] = set()
    with concurrent.futures.ThreadPoolExecutor(LIMIT - 1, thread_name_prefix="pool") as pool:
        port = _Port(echo=Both(), threads=1, max_queued=LIMIT - 1, pool=pool)
        held = [port.begin(b"hold", n % 3) for n in range(LIMIT - 1)]
        for _ in held:
            assert port.echo.entered.acquire(timeout=20)
        with grpc.insecure_channel(port.address) as channel:
            assert channel.unary_unary("/e.E/AtOnce")(b"ab", timeout=20) == b"ba"
        assert port.port._workers == 2 and all(name.startswith("grpc_") for name in threads)
        port.echo.go.set()
        assert [h.result() for h in held] == [b"dloh"] * (LIMIT - 1)
        port.close()


def test_a_client_that_goes_while_its_call_runs_disturbs_nobody(port):
    gone, other = port.begin(b"hold"), port.begin(b"later", 1)
    for _ in range(2):
        assert port.echo.entered.acquire(timeout=20)
    gone.cancel()
    late = port.begin(b"later", 2, timeout=0.05)
    with pytest.raises(grpc.RpcError):
        late.result()
    port.echo.go.set()
    assert other.result() == b"retal"
    until(lambda: port.port._open == 0)
    assert port.ask(b"ab") == b"ba"


def test_many_clients_get_their_own_replies(port):
    def work(number):
        for i in range(60):
            message = b"%d %d" % (number, i)
            assert port.ask(message, number % 3) == message[::-1]

    with concurrent.futures.ThreadPoolExecutor(LIMIT) as pool:
        for done in [pool.submit(work, n) for n in range(LIMIT)]:
            done.result()
    until(lambda: port.port._open == 0)
    assert port.port._running == 0 and port.port._workers <= THREADS + 1


def test_a_thread_that_cannot_be_made_holds_up_no_call(port, monkeypatch):
    def fail(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert port.ask(b"ab") == b"ba" and port.ask(b"cd") == b"dc"
    held = [port.begin(b"hold", n) for n in range(THREADS)]
    for _ in held:
        assert port.echo.entered.acquire(timeout=20)
    port.echo.go.set()
    assert [h.result() for h in held] == [b"dloh"] * THREADS


def test_a_call_is_answered_once(port, monkeypatch):
    failed = []

    def twice(message, context):
        context.answer(b"first")
        for again in (lambda: context.answer(b"second"), lambda: context.refuse(grpc.StatusCode.ABORTED, "third")):
            with pytest.raises(RuntimeError, match="answered already"):
                again()
            failed.append(again)
        return LATER

    monkeypatch.setattr(port.echo, "_answer", twice)
    assert port.ask(b"ab") == b"first"
    until(lambda: len(failed) == 2 and port.port._open == 0)
    assert port.port._admitted == 0


def test_replies_that_clients_do_not_read_leave_room_for_others(port):
    """Streams whose window is zero get no reply, however long they stay."""
    host, _, number = port.address.rpartition(":")

    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload

    def text(value):
        return bytes((len(value),)) + value.encode()

    # HPACK (RFC 7541) without a table of its own: POST, http, path, authority, content type, te.
    head = (b"\x83\x86\x04" + text(METHOD) + b"\x01" + text("a") + b"\x0f\x10" + text("application/grpc") + b"\0"
            + text("te") + text("trailers"))
    with socket.create_connection((host, int(number)), timeout=20) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\0\4\0\0\0\0"))
        for call in range(2 * LIMIT):
            client.sendall(frame(1, 4, 2 * call + 1, head) + frame(0, 1, 2 * call + 1, b"\0\0\0\0\2zz"))
        until(lambda: port.echo.calls[b"zz"] == 2 * LIMIT)
        assert port.port._open == 2 * LIMIT
        assert port.ask(b"ab") == b"ba"
    until(lambda: port.port._open == 0)


def test_stop_lets_calls_in_flight_finish_and_refuses_new_ones():
    port = _Port()
    held = []
    for kind in (b"hold", b"later", b"hold"):
        held.append(port.begin(kind))
        assert port.echo.entered.acquire(timeout=20)
    held.append(port.begin(b"hold"))
    until(lambda: len(port.port._waiting) == 1)
    ended = port.port.stop(20)
    assert not ended.wait(0.1)
    assert code(port.ask, b"ab", 1)[0] == "UNAVAILABLE"
    port.echo.go.set()
    assert [h.result() for h in held] == [b"dloh", b"retal", b"dloh", b"dloh"]
    assert ended.wait(20) and port.port.stop(None) is ended
    port.close()


def test_stop_cancels_what_takes_longer_than_its_grace():
    port = _Port()
    held = port.begin(b"later")
    assert port.echo.entered.acquire(timeout=20)
    ended = port.port.stop(60)
    assert not ended.wait(0.1) and port.port.stop(0.1) is ended
    with pytest.raises(grpc.RpcError) as caught:
        held.result()
    assert caught.value.code().name in ("CANCELLED", "UNAVAILABLE")
    port.echo.go.set()
    assert ended.wait(20)
    port.close()


def test_its_threads_end_and_a_port_that_never_started_stops():
    before = {t.name for t in threading.enumerate()}
    port = _Port()
    assert port.ask(b"ab") == b"ba"
    port.close()
    until(lambda: {t.name for t in threading.enumerate() if t.name.startswith("grpc")} <= before)
    never = GrpcPort(threads=1, max_queued=0, options=[])
    assert never.stop(None).wait(1)
    for stopped in (never, port.port):
        with pytest.raises(RuntimeError, match="starts once"):
            stopped.start()


_STOPS = """
import contextlib, threading, time, grpc
from test_grpc_port import LIMIT, _Port
from tfmeta.serving import grpc_port

def spin():
    while True:
        sum(range(1000))

threading.Thread(target=spin, daemon=True).start()
end, stops = time.monotonic() + 6, 0
while time.monotonic() < end:
    port = _Port()
    def call(number):
        with contextlib.suppress(grpc.RpcError, ValueError):
            while True:
                port.ask(b"ab", number % 3)
    callers = [threading.Thread(target=call, args=(n,)) for n in range(LIMIT)]
    for caller in callers:
        caller.start()
    time.sleep(0.01)
    assert port.port.stop(0).wait(20)
    for caller in callers:
        caller.join()
    port.channels.close()
    stops += 1
print(stops)
"""


def test_stops_under_traffic_do_not_end_the_process():
    """The library ends a process that asks it for something at the wrong moment."""
    here = pathlib.Path(__file__).parent
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", _STOPS], capture_output=True, text=True,
                          timeout=120, env={**os.environ, "PYTHONPATH": f"{here}:{here.parents[1]}"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 3


def test_calls_that_are_not_let_in():
    port = _Port(accepts=lambda metadata: ("key", "right") in metadata)
    for _ in range(2 * LIMIT):
        assert code(port.ask, b"ab", metadata=(("key", "wrong"),)) == (
            "UNAUTHENTICATED", "The call requires the metadata 'authorization: Bearer TOKEN'")
    assert port.ask(b"ab", metadata=(("key", "right"),)) == b"ba"
    assert port.echo.calls == {b"ab": 1}
    port.close()
