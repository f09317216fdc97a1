"""HTTP of the REST port: connections, limits, the token, health, metrics and the description."""

import concurrent.futures
import http.client
import json
import socket
import threading
import time

import pytest

from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.lifecycle.servable_factory import ServableFactory
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.rest_reply import RestReply
from tfmeta.serving.rest_service import RestService
from tfmeta.serving.server_metrics import ServerMetrics

TOKEN = "0123456789abcdef"
PREDICT = "/v1/models/small:predict"
BODY = json.dumps({"inputs": {"query_item_id": [["1"]]}})


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "merged"])
def merged(request):
    """Whether the model merges requests; the port then reads most of them in one thread."""
    return request.param


@pytest.fixture(scope="module")
def manager(small_model_base, merged):
    batching = BatchingParameters(max_batch_size=8, batch_timeout_micros=0) if merged else None
    made = ModelManager({"small": small_model_base}, make_servable=ServableFactory(batching))
    made.load()
    yield made
    made.close()


@pytest.fixture(scope="module")
def start(manager, merged):
    services = []

    def make(**options):
        options = {"host": "127.0.0.1", "port": 0, "threads": 4, "max_body_bytes": 1000, "merged": merged, **options}
        services.append(RestService(manager, metrics=ServerMetrics(loaded=manager.loaded), **options))
        return services[-1]

    yield make
    for service in services:
        service.stop(grace=1)


@pytest.fixture(scope="module")
def service(start):
    return start(pages=lambda method, path, body: RestReply(200, b"<p>", "text/html") if path == "/" else None)


def ask(connection, method, path, body=None, headers=None):
    connection.request(method, path, body=body, headers=headers or {})
    reply = connection.getresponse()
    return reply, reply.read()


def raw(service, data: bytes) -> bytes:
    host, port = service.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received


def test_a_connection_answers_many_requests(service):
    connection = http.client.HTTPConnection(service.address, timeout=20)
    for _ in range(3):
        reply, body = ask(connection, "POST", PREDICT, BODY)
        assert (reply.status, reply.getheader("Content-Type")) == (200, "application/json")
        assert json.loads(body)["outputs"]["scores"] == [[101.0]]
        assert not reply.will_close
        reply, body = ask(connection, "GET", "/v1/models/small?any=query")
        assert json.loads(body)["model_version_status"][0]["state"] == "AVAILABLE"
        reply, body = ask(connection, "HEAD", "/healthz")
        assert (reply.status, body) == (200, b"")
    local = connection.sock.getsockname()
    ask(connection, "PUT", PREDICT, "x")
    assert connection.sock.getsockname() == local
    connection.close()


def test_http_1_0_and_close(service):
    head = raw(service, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and b"Connection: close" in head
    assert b"Connection: close" in raw(service, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    expect = f"POST {PREDICT} HTTP/1.1\r\nContent-Length: {len(BODY)}\r\nExpect: 100-continue\r\n" \
             f"Connection: close\r\n\r\n{BODY}"
    found = raw(service, expect.encode())
    assert found.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200") and b"101.0" in found


@pytest.mark.parametrize(("data", "status"), [
    (b"nonsense\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n\r\n", 505), (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    (b"POST /v1/models/small:predict HTTP/1.1\r\n\r\n", 411),
    (b"POST /v1/models/small:predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    (b"POST /v1/models/small:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /v1/models/small:predict HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    (b"POST /v1/models/small:predict HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nab", 413),
    (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
    (b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    (b"BREW /v1/models/small HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
])
def test_what_is_odd_gets_an_answer_and_the_connection_ends(service, data, status):
    # A client that sends no more than that; what comes back is read to its end.
    host, port = service.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    if status != 200:
        assert set(json.loads(body)) == {"error"}


def test_a_large_body_is_refused_and_the_answer_arrives(service):
    connection = http.client.HTTPConnection(service.address, timeout=20)
    reply, body = ask(connection, "POST", PREDICT, b"x" * (4 << 20))
    assert reply.status == 413 and "at most 1000 bytes, received 4194304" in json.loads(body)["error"]


def test_token(start):
    service = start(token=BearerToken(TOKEN))
    connection = http.client.HTTPConnection(service.address, timeout=20)
    for headers, status in (({}, 401), ({"Authorization": "Bearer no"}, 401),
                            ({"Authorization": f"Bearer {TOKEN}"}, 200)):
        reply, _ = ask(connection, "POST", PREDICT, BODY, headers)
        assert reply.status == status
        assert (reply.getheader("WWW-Authenticate") == "Bearer") == (status == 401)
    assert ask(connection, "GET", "/healthz")[0].status == 200
    assert ask(connection, "GET", "/monitoring/prometheus/metrics")[0].status == 401
    connection.close()


def test_health_and_metrics(service, small_model_base):
    connection = http.client.HTTPConnection(service.address, timeout=20)
    reply, body = ask(connection, "GET", "/healthz")
    assert (reply.status, json.loads(body)) == (200, {"status": "ok", "models": {"small": 3}})
    for path, payload in ((PREDICT, BODY), (PREDICT, "{}"), ("/v1/models/invented:predict", BODY)):
        ask(connection, "POST", path, payload)
    reply, body = ask(connection, "GET", "/monitoring/prometheus/metrics")
    assert reply.getheader("Content-Type").startswith("text/plain")
    text = body.decode()
    for line in ('tfmeta_serving_requests_total{api="rest",code="OK",model="small",signature="serving_default",'
                 'version="3"}', 'code="INVALID_ARGUMENT",model="small",signature="serving_default",version="3"}',
                 'code="NOT_FOUND",model="unknown",signature="unknown",version="unknown"}',
                 'tfmeta_serving_request_seconds_bucket', 'tfmeta_serving_model_version{model="small"} 3.0',
                 "process_resident_memory_bytes"):
        assert line in text, line
    assert "invented" not in text
    empty = ModelManager({"small": small_model_base})
    fresh = RestService(empty, host="127.0.0.1", port=0, threads=1, max_body_bytes=10)
    try:
        other = http.client.HTTPConnection(fresh.address, timeout=20)
        assert ask(other, "GET", "/healthz")[0].status == 503
        assert ask(other, "GET", "/monitoring/prometheus/metrics")[0].status == 404
    finally:
        fresh.stop()
        empty.close()


def test_description(service):
    connection = http.client.HTTPConnection(service.address, timeout=20)
    _, body = ask(connection, "GET", "/openapi.json")
    assert {"/v1/models/{model}:predict", "/v1/models/{model}/labels/{label}/metadata", "/healthz"} <= set(
        json.loads(body)["paths"])


def test_connections_are_limited(start):
    service = start(max_connections=2)
    open_ones = [http.client.HTTPConnection(service.address, timeout=20) for _ in range(2)]
    for connection in open_ones:
        assert ask(connection, "GET", "/healthz")[0].status == 200
    assert b"429" in raw(service, b"GET /healthz HTTP/1.1\r\n\r\n").split(b"\r\n")[0]
    open_ones.pop().close()
    limit = time.monotonic() + 20
    while raw(service, b"GET /healthz HTTP/1.0\r\n\r\n").split()[1:2] != [b"200"]:
        assert time.monotonic() < limit


def test_stopping_ends_idle_connections_and_finishes_requests(manager, merged):
    entered, go = threading.Event(), threading.Event()

    def slow(method, path, body):
        entered.set()
        assert go.wait(20)
        return RestReply(200, b"{}")

    service = RestService(manager, host="127.0.0.1", port=0, threads=1, max_body_bytes=10, pages=slow, merged=merged)
    idle = http.client.HTTPConnection(service.address, timeout=20)
    ask(idle, "GET", "/healthz")
    busy = http.client.HTTPConnection(service.address, timeout=20)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        reply = pool.submit(ask, busy, "GET", "/slow")
        assert entered.wait(20)
        stopped = pool.submit(service.stop, grace=20)
        assert idle.sock.recv(1) == b""
        assert not stopped.done()
        go.set()
        assert reply.result(20)[0].status == 200 and reply.result()[0].getheader("Connection") == "close"
        begun = time.monotonic()
        stopped.result(20)
        assert time.monotonic() - begun < 5
    with pytest.raises(OSError):
        ask(http.client.HTTPConnection(service.address, timeout=5), "GET", "/healthz")
