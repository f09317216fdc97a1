"""Models of every kind that the page meets, and a server of them."""

import http.client
import json

import pytest
from page_models import build_cheap_models


@pytest.fixture(scope="session")
def page_bases(tmp_path_factory) -> dict[str, str]:
    return build_cheap_models(str(tmp_path_factory.mktemp("page")))


@pytest.fixture(scope="session")
def page_server(page_bases):
    from tfmeta.serving.server import EmbeddedServer

    with EmbeddedServer(page_bases, grpc_port=0, rest_port=0, warm_up=False) as server:
        yield server


@pytest.fixture(scope="session")
def ask(page_server):
    """`ask(name, body) -> (status, content)` on one connection."""
    connection = http.client.HTTPConnection(page_server.rest_address, timeout=60)

    def make(name, body=None):
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        connection.request("GET" if body is None else "POST", f"/page/{name}.json", body=data)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())

    yield make
    connection.close()
