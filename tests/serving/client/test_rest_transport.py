"""The HTTP side: connections that are kept, broken, slow or not what they should be."""

import http.server
import json
import ssl
import threading
import time

import numpy as np
import pytest

from tfmeta.serving import RequestError, RestClient
from tfmeta.serving.client import (
    AccessDenied,
    DeadlineExceeded,
    Exhausted,
    InvalidRequest,
    RetryPolicy,
    Tls,
    Unavailable,
)

ONE = {"query_movie": np.array([["m5", b"\xff"]], object), "number": np.float32([np.nan])}
METADATA = {"model_spec": {"name": "m", "signature_name": "", "version": "3"}, "metadata": {"signature_def": {
    "signature_def": {
        "score": {"outputs": {"scores": {"dtype": "DT_FLOAT"}, "name": {"dtype": "DT_STRING"}}},
        "single": {"outputs": {"scores": {"dtype": "DT_INT64"}}}, "odd": {"outputs": {"x": {"dtype": "DT_VARIANT"}}}}}}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_GET(self):
        self._answer(b"")

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body):
        self.server.requests.append((self.command, self.path, body, dict(self.headers)))
        status, reply = 200, METADATA if self.command == "GET" else {"outputs": {"scores": [[1.5]], "name": ["é"]}}
        if self.command == "POST" and self.server.script:
            step = self.server.script.pop(0)
            if step == "break":
                self.close_connection = True
                return
            if isinstance(step, float):
                time.sleep(step)
            elif isinstance(step, tuple):
                status, reply = step
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data) + (9 if self.server.short else 0)))
        self.end_headers()
        self.wfile.write(data)
        if self.server.hang_up or self.server.short:
            self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.script, server.connections = [], [], 0
    server.hang_up = server.short = False
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    server.address = f"127.0.0.1:{server.server_address[1]}"
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def rest(site):
    with RestClient(f"http://{site.address}/prefix/", retry=RetryPolicy(initial=0.001), token="secret") as client:
        yield client


def test_one_connection_and_metadata_read_once(site, rest):
    for _ in range(5):
        outputs = rest.predict("m/n", ONE)
    assert outputs["scores"].dtype == np.float32 and outputs["name"].tolist() == ["é".encode()]
    assert site.connections == 1
    assert [r[:2] for r in site.requests[:2]] == [("GET", "/prefix/v1/models/m%2Fn/metadata"),
                                                  ("POST", "/prefix/v1/models/m%2Fn:predict")]
    assert len(site.requests) == 6 and site.requests[0][3]["authorization"] == "Bearer secret"
    body = json.loads(site.requests[1][2])
    assert body["inputs"]["query_movie"] == [["m5", {"b64": "/w=="}]] and body["signature_name"] == "score"
    assert b'"number":[NaN]' in site.requests[1][2]


def test_version_and_label_paths(site, rest):
    rest.predict("m", ONE, version=7)
    rest.predict("m", ONE, label="a b")
    assert [r[1] for r in site.requests if r[0] == "POST"] == ["/prefix/v1/models/m/versions/7:predict",
                                                               "/prefix/v1/models/m/labels/a%20b:predict"]


def test_a_connection_that_the_server_closed_is_made_again(site, rest):
    site.hang_up = True
    for _ in range(4):
        rest.predict("m", ONE)
    assert site.connections == 5
    site.hang_up = False
    rest.predict("m", ONE)
    site.script = ["break"]
    rest.predict("m", ONE)
    assert site.script == []
    site.requests.clear()
    site.script = ["break"] * 9
    with pytest.raises(Unavailable, match="closed connection"):
        rest.predict("m", ONE)
    # The kept connection, and five attempts of their own.
    assert len(site.requests) == 6


def test_single_output_without_its_name(site, rest):
    site.script = [(200, {"outputs": [2**60, 1]})]
    outputs = rest.predict("m", ONE, signature="single")
    assert outputs["scores"].tolist() == [2**60, 1] and outputs["scores"].dtype == np.int64


@pytest.mark.parametrize(("status", "body", "kind", "message"), [
    (400, {"error": "bad"}, InvalidRequest, "INVALID_ARGUMENT: bad"),
    (401, {"error": "who"}, AccessDenied, "UNAUTHENTICATED: who"),
    (403, b"<html>no</html>", AccessDenied, "PERMISSION_DENIED: <html>no</html>"),
    (413, {"error": "large"}, Exhausted, "RESOURCE_EXHAUSTED: large"),
    (429, {"error": "full"}, Exhausted, "RESOURCE_EXHAUSTED: full"),
    (503, {"error": "later"}, Unavailable, "UNAVAILABLE: later"), (504, b"", DeadlineExceeded, "HTTP status 504"),
    (500, {"error": "oh"}, RequestError, "INTERNAL: oh"), (302, b"", RequestError, "UNKNOWN: HTTP status 302"),
    (200, b"{", RequestError, "no JSON object"), (200, b"[]", RequestError, "no JSON object"),
    (200, {"predictions": []}, RequestError, "requires outputs"),
    (200, {"outputs": {"zz": 1}}, RequestError, "requires outputs"),
    (200, {"outputs": {"scores": ["x"], "name": ["x"]}}, RequestError, "requires values of DT_FLOAT"),
    (200, {"outputs": {"scores": [1], "name": [3]}}, RequestError, "requires values of DT_STRING"),
])
def test_replies_that_are_errors(site, rest, status, body, kind, message):
    site.script = [(status, body)] * 5
    with pytest.raises(kind, match=message) as caught:
        rest.predict("m", ONE)
    assert type(caught.value) is kind


def test_unavailable_is_retried(site, rest):
    site.script = [(503, {"error": "later"})] * 3
    assert rest.predict("m", ONE)["scores"].tolist() == [[1.5]]
    assert len([r for r in site.requests if r[0] == "POST"]) == 4


def test_deadline_and_size(site, rest):
    site.script = [3.0]
    begun = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="did not answer"):
        rest.predict("m", ONE, timeout=0.2)
    assert time.monotonic() - begun < 2.5
    site.script = [(200, b" " * 5000)]
    with RestClient(site.address, max_message_bytes=2000) as client:
        with pytest.raises(Exhausted, match="at most 2000"):
            client.predict("m", ONE)
        with pytest.raises(Exhausted, match="at most 2000"):
            client.predict("m", {"query_movie": np.array([["m" * 3000]])})


def test_a_short_body_is_an_error(site):
    with RestClient(site.address, retry=RetryPolicy(attempts=1)) as client:
        client.predict("m", ONE)
        site.short = True
        with pytest.raises(Unavailable):
            client.predict("m", ONE)


def test_types_that_json_does_not_carry(site, rest):
    with pytest.raises(RequestError, match="does not carry: 'DT_VARIANT'"):
        rest.predict("m", ONE, signature="odd")
    with pytest.raises(ValueError, match="complex"):
        rest.predict("m", {"x": np.array([1j])})


def test_https(site, tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("models.example").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    site.socket = context.wrap_socket(site.socket, server_side=True)
    tls = Tls(root_cert=str(tmp_path / "ca.pem"), server_name="models.example")
    with RestClient(f"https://{site.address}", tls=tls, token="secret") as client:
        assert client.predict("m", ONE)["scores"].tolist() == [[1.5]]
    for bad in (None, Tls(root_cert=str(tmp_path / "ca.pem"))):
        with (RestClient(f"https://{site.address}", tls=bad, retry=RetryPolicy(attempts=1)) as client,
              pytest.raises(Unavailable, match="failed to connect")):
            client.predict("m", ONE)
