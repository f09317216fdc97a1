"""The gRPC port of merged requests: several listeners that are one server to everybody else."""

import asyncio
import concurrent.futures
import contextlib
import threading

import grpc
import pytest

from tfmeta.serving.grpc_loop import GrpcLoop

CONNECTIONS, LIMIT = 8, 5
METHODS = ("/e.E/Loop", "/e.E/Pool")


class _Echo(grpc.GenericRpcHandler):
    """Answers with the message backwards, on the loop (where `hold` waits for `go`) or in the pool."""

    def __init__(self):
        self.holding, self.go = threading.Semaphore(0), threading.Event()

    def service(self, handler_call_details):
        answer = {"/e.E/Loop": self._on_loop, "/e.E/Pool": self._in_pool}.get(handler_call_details.method)
        return answer and grpc.unary_unary_rpc_method_handler(answer, request_deserializer=self._read)

    async def _on_loop(self, message, context):
        if message == b"hold":
            self.holding.release()
            while not self.go.is_set():
                await asyncio.sleep(0.005)
        return message[::-1]

    @staticmethod
    def _in_pool(message, context):
        return message[::-1]

    @staticmethod
    def _read(data):
        if data == b"bad":
            raise ValueError("no message")
        return data


@pytest.fixture
def echo():
    return _Echo()


@pytest.fixture
def calls(echo):
    """One unary method a connection: `(method, message)` to the reply."""
    loop = GrpcLoop(lambda server, loop, pool: server.add_generic_rpc_handlers((echo,)),
                    threads=2, max_queued=LIMIT - 2, options=[], token=None)
    port = loop.add_insecure_port("127.0.0.1:0")
    loop.start()
    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])) for _ in range(CONNECTIONS)]
        yield [lambda method, message, channel=channel: channel.unary_unary(method)(message, timeout=20)
               for channel in channels]
        echo.go.set()
    assert loop.stop(5).wait(10)


def code(call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code().name, caught.value.details()


def test_the_limit_counts_the_calls_of_all_connections(calls, echo):
    with concurrent.futures.ThreadPoolExecutor(LIMIT) as pool:
        held = [pool.submit(call, "/e.E/Loop", b"hold") for call in calls[:LIMIT]]
        for _ in held:
            assert echo.holding.acquire(timeout=10)
        for call in calls:
            for method in METHODS:
                assert code(call, method, b"ab") == ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")
        echo.go.set()
        assert [h.result() for h in held] == [b"dloh"] * LIMIT
    for number, call in enumerate(calls):
        for method in METHODS:
            assert call(method, b"%da" % number) == b"a%d" % number


@pytest.mark.parametrize("method", METHODS)
def test_bytes_that_are_no_message_and_unknown_methods(calls, method):
    for call in calls:
        assert code(call, method, b"bad") == ("INTERNAL", "Exception deserializing request!")
        assert code(call, "/e.E/Other", b"ab")[0] == "UNIMPLEMENTED"
        # A refused call does not stay counted.
        assert call(method, b"ab") == b"ba"
