"""The load generator's gRPC connection against a real server."""

import concurrent.futures

import grpc
import pytest

from benchmarks.grpc_connection import GrpcConnection

METHOD = "/test.Echo/Say"


class _Echo(grpc.GenericRpcHandler):
    """Answers with the message backwards, which no confusion of what was sent with what came survives."""

    def service(self, details):
        if details.method != METHOD:
            return None

        def say(message, context):
            if message == b"refuse":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")
            return message[::-1]

        return grpc.unary_unary_rpc_method_handler(say)


@pytest.fixture(scope="module")
def address():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), handlers=(_Echo(),),
                         options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def ask(connection: GrpcConnection, message: bytes) -> bytes:
    connection.send(message)
    while (reply := connection.receive()) is None:
        pass
    return reply


def test_messages_of_all_sizes_come_back_whole(address):
    connection = GrpcConnection(address, METHOD)
    # Around a frame, a stream's first window, and more than the connection's first window in all.
    for size in (1, 5, 16_378, 16_379, 16_380, 65_530, 65_531, 200_000, 1_500_000) * 3:
        message = bytes(i % 251 for i in range(1000)) * (size // 1000) + bytes(range(size % 1000 % 256))
        message = message or b"x"
        assert ask(connection, message) == message[::-1]
    for number in range(2000):
        assert ask(connection, str(number).encode()) == str(number)[::-1].encode()
    connection.close()


def test_a_call_that_fails_raises_and_leaves_the_connection_usable(address):
    connection = GrpcConnection(address, METHOD)
    with pytest.raises(RuntimeError, match="failed"):
        ask(connection, b"refuse")
    assert ask(connection, b"ab") == b"ba"
    connection.close()


def test_an_unknown_method_raises(address):
    connection = GrpcConnection(address, "/test.Echo/Nothing")
    with pytest.raises(RuntimeError, match="failed"):
        ask(connection, b"ab")
    connection.close()
