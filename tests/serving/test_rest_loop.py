"""REST requests that are merged, read by one thread for all connections."""

import concurrent.futures
import http.client
import json
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.lifecycle.servable_factory import ServableFactory
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.rest_loop import plain_predict
from tfmeta.serving.rest_service import RestService
from tfmeta.serving.server_metrics import ServerMetrics

PREDICT = "/v1/models/small:predict"


def predict(item) -> bytes:
    body = json.dumps({"inputs": {"query_item_id": [[str(item)]]}}).encode()
    return f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def read_reply(connection) -> tuple[int, bytes]:
    """Status and body of the next reply on a socket's file."""
    status, length = int(connection.readline().split()[1]), 0
    while (line := connection.readline()) not in (b"\r\n", b""):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return status, connection.read(length)


def score(body: bytes) -> float:
    return json.loads(body)["outputs"]["scores"][0][0]


@pytest.fixture(scope="module")
def metrics(manager):
    return ServerMetrics(loaded=manager.loaded)


@pytest.fixture(scope="module")
def manager(small_model_base):
    made = ModelManager({"small": small_model_base}, make_servable=ServableFactory(
        BatchingParameters(max_batch_size=4, batch_timeout_micros=1000, num_batch_threads=2)))
    made.load()
    yield made
    made.close()


@pytest.fixture(scope="module")
def service(manager, metrics):
    made = RestService(manager, host="127.0.0.1", port=0, threads=8, max_body_bytes=1 << 20, metrics=metrics,
                       merged=True)
    yield made
    made.stop(grace=5)


def connect(service) -> socket.socket:
    host, port = service.address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


def threads_of_connections() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_many_clients_get_their_own_answers_without_a_thread_each(service, metrics):
    before = threads_of_connections()
    most = [0]

    def client(number):
        with connect(service) as connection, connection.makefile("rb") as replies:
            for turn in range(20):
                item = (number * 20 + turn) % 3
                connection.sendall(predict(item))
                status, body = read_reply(replies)
                assert (status, score(body)) == (200, 100.0 + item), body
                most[0] = max(most[0], threads_of_connections())

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    assert most[0] == before
    page = metrics.page().decode()
    assert 'tfmeta_serving_requests_total{api="rest",code="OK",model="small",signature="serving_default",' in page


def test_bytes_one_by_one_and_several_requests_at_once(service):
    with connect(service) as connection, connection.makefile("rb") as replies:
        for byte in predict(1):
            connection.sendall(bytes([byte]))
        assert score(read_reply(replies)[1]) == 101.0
        connection.sendall(predict(0) + predict(1) + predict(2) + predict(1)[:30])
        assert [score(read_reply(replies)[1]) for _ in range(3)] == [100.0, 101.0, 102.0]
        connection.sendall(predict(1)[30:])
        assert score(read_reply(replies)[1]) == 101.0


def test_what_it_does_not_read_goes_to_a_thread_with_every_byte(service):
    with connect(service) as connection, connection.makefile("rb") as replies:
        connection.sendall(predict(1) + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + predict(2))
        assert score(read_reply(replies)[1]) == 101.0
        assert json.loads(read_reply(replies)[1])["status"] == "ok"
        assert score(read_reply(replies)[1]) == 102.0
    large = json.dumps({"inputs": {"query_item_id": [["1"] * 60_000]}})
    connection = http.client.HTTPConnection(service.address, timeout=60)
    for _ in range(2):
        connection.request("POST", PREDICT, body=large)
        reply = connection.getresponse()
        assert reply.status == 200 and len(json.loads(reply.read())["outputs"]["scores"][0]) == 60_000
    connection.close()


@pytest.mark.parametrize(("path", "body", "status", "message"), [
    (PREDICT, b"nonsense", 400, "JSON Parse error"), (PREDICT, b"", 400, "document is empty"),
    (PREDICT, b'{"inputs": {"query_item_id": [[1.5]]}}', 400, "is not of expected type"),
    (PREDICT, b'{"signature_name": "no", "inputs": []}', 400, "not found in signature def"),
    ("/v1/models/other:predict", b"{}", 404, "Servable not found"),
    # No row to be merged with others.
    (PREDICT, b'{"inputs": {"query_item_id": "1"}}', 200, "outputs")])
def test_what_is_odd_is_answered_as_where_requests_run_alone(service, manager, path, body, status, message):
    alone = RestService(manager, host="127.0.0.1", port=0, threads=2, max_body_bytes=1 << 20)
    found = []
    for one in (service, alone):
        connection = http.client.HTTPConnection(one.address, timeout=20)
        connection.request("POST", path, body=body)
        reply = connection.getresponse()
        found.append((reply.status, reply.read(), reply.getheader("Connection")))
        connection.close()
    alone.stop()
    assert found[0] == found[1]
    assert found[0][0] == status and message in found[0][1].decode()


def test_a_client_that_leaves_disturbs_nobody(service):
    for data in (predict(1)[:40], predict(1), b"", b"GET"):
        connection = connect(service)
        connection.sendall(data)
        connection.close()
    half = connect(service)
    half.sendall(predict(2))
    half.shutdown(socket.SHUT_WR)
    with half.makefile("rb") as replies:
        assert score(read_reply(replies)[1]) == 102.0
        assert replies.read() == b""
    half.close()
    with connect(service) as connection, connection.makefile("rb") as replies:
        connection.sendall(predict(1))
        assert score(read_reply(replies)[1]) == 101.0


def test_a_refusal_for_want_of_room_and_all_room_back_afterwards(manager):
    entered, go = threading.Semaphore(0), threading.Event()
    with manager.lease("small") as batched:
        made = RestService(manager, host="127.0.0.1", port=0, threads=1, max_body_bytes=1 << 20, max_queued=1,
                           merged=True)
        call = batched.servable.call("serving_default")
        run = call.run

        def slow(values):
            entered.release()
            assert go.wait(20)
            return run(values)

        batcher = batched._batchers.get(call) or batched._make(call)
        batcher._run = slow
        try:
            with concurrent.futures.ThreadPoolExecutor(3) as pool:
                def ask(item):
                    with connect(made) as connection, connection.makefile("rb") as replies:
                        connection.sendall(predict(item))
                        return read_reply(replies)

                begun = []
                for item in (1, 2):  # each in a batch of its own: there are two slots
                    begun.append(pool.submit(ask, item))
                    assert entered.acquire(timeout=20)
                status, body = ask(0)
                assert status == 429 and b"Concurrent RPC limit exceeded" in body
                go.set()
                assert [score(f.result(20)[1]) for f in begun] == [101.0, 102.0]
                assert score(ask(0)[1]) == 100.0
        finally:
            batcher._run = run
            go.set()
            made.stop()


def test_a_reply_that_cannot_be_written_is_an_error_and_its_room_comes_back(manager, monkeypatch):
    from tfmeta.serving import rest_api

    made = RestService(manager, host="127.0.0.1", port=0, threads=1, max_body_bytes=1 << 20, max_queued=0, merged=True)
    try:
        with connect(made) as connection, connection.makefile("rb") as replies:
            with monkeypatch.context() as broken:
                broken.setattr(rest_api, "write_reply", lambda outputs, rows: 1 / 0)
                connection.sendall(predict(1))
                status, body = read_reply(replies)
            assert status == 500 and "ZeroDivisionError" in json.loads(body)["error"]
            connection.sendall(predict(1))
            assert score(read_reply(replies)[1]) == 101.0
    finally:
        made.stop()


def test_stopping_answers_what_was_begun(manager):
    made = RestService(manager, host="127.0.0.1", port=0, threads=4, max_body_bytes=1 << 20, merged=True)
    idle = connect(made)
    with connect(made) as connection, connection.makefile("rb") as replies:
        connection.sendall(predict(1))
        assert score(read_reply(replies)[1]) == 101.0
        begun = time.monotonic()
        made.stop(grace=20)
        assert time.monotonic() - begun < 10
        assert replies.read() == b"" and idle.recv(1) == b""
    idle.close()
    assert not made._server._loop._thread.is_alive()


HEAD = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 12"


def test_a_plain_head_is_read_and_any_other_left_alone():
    assert plain_predict(HEAD) == ("/v1/models/m:predict", 12)
    assert plain_predict(HEAD + b"\r\naccept:*/*") == ("/v1/models/m:predict", 12)
    for odd in (b"GET" + HEAD[4:], HEAD.replace(b"1.1", b"1.0"), HEAD.replace(b"12", b"-1"),
                HEAD.replace(b"12", b"1 2"), HEAD + b"\r\nContent-Length: 12", HEAD + b"\r\nExpect: 100-continue",
                HEAD + b"\r\nConnection: close", HEAD + b"\r\nTransfer-Encoding: chunked", HEAD + b"\r\n folded",
                HEAD + b"\r\nno colon", HEAD + b"\r\nbad name: 1", HEAD + b"\r\nAuthorization: Bearer x",
                HEAD.rpartition(b"\r\n")[0], HEAD + b"\r\na: b" * 200, HEAD.replace(b"/v1", b"/v 1"),
                HEAD.replace(b"12", "\u0661".encode())):
        assert plain_predict(odd) is None, odd


@given(st.binary(max_size=60), st.integers(0, len(HEAD)))
def test_no_bytes_break_the_reading_of_a_head(extra, where):
    found = plain_predict(HEAD[:where] + extra + HEAD[where:])
    assert found is None or (found[0].isascii() and found[0].isprintable() and " " not in found[0] and found[1] >= 0)
