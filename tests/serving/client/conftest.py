"""One server with hand-made models for all tests of clients."""

import asyncio

import pytest
from client_models import build_client_model


@pytest.fixture(scope="session")
def model_bases(tmp_path_factory) -> dict[str, str]:
    base = tmp_path_factory.mktemp("client_models")
    build_client_model(str(base / "movies" / "1"))
    build_client_model(str(base / "films" / "2"), by_id=False)
    build_client_model(str(base / "clicks" / "1"), unit="click")
    return {name: str(base / name) for name in ("movies", "films", "clicks")}


@pytest.fixture(scope="session")
def movie_server(model_bases):
    from tfmeta.serving.server import EmbeddedServer

    with EmbeddedServer(model_bases, grpc_port=0, rest_port=0) as server:
        yield server


class Awaited:
    """An AsyncClient whose calls are awaited in a loop of their own."""

    def __init__(self, client, loop):
        self._client, self._loop = client, loop

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))


@pytest.fixture(scope="session")
def grpc_client(movie_server):
    from tfmeta.serving import Client

    with Client(movie_server.grpc_address, model="movies") as client:
        yield client


@pytest.fixture(scope="session")
def rest_client(movie_server):
    from tfmeta.serving import RestClient

    with RestClient(movie_server.rest_address, model="movies") as client:
        yield client


@pytest.fixture(scope="session")
def async_client(movie_server):
    from tfmeta.serving import AsyncClient

    loop = asyncio.new_event_loop()
    client = AsyncClient(movie_server.grpc_address, model="movies")
    yield Awaited(client, loop)
    loop.run_until_complete(client.close())
    loop.close()


@pytest.fixture(params=["grpc", "rest", "async"])
def client(request):
    return request.getfixturevalue(f"{request.param}_client")
