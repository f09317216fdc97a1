"""OpenTelemetry spans of a client."""

import asyncio
import builtins

import numpy as np
import pytest
from fake_server import FakeServer

from tfmeta.errors import ConfigError
from tfmeta.serving import AsyncClient, Client, RestClient
from tfmeta.serving.client import InvalidRequest, RetryPolicy

ONE = {"query_movie": np.array([["m5"], ["m6"]])}


@pytest.fixture
def exporter_and_provider():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, provider


@pytest.fixture
def fake():
    server = FakeServer()
    yield server
    server.close()


def test_a_span_for_every_attempt_travels_with_it(fake, exporter_and_provider):
    exporter, provider = exporter_and_provider
    fake.failures = ["UNAVAILABLE"]
    with Client(fake.address, telemetry=provider, retry=RetryPolicy(initial=0.001)) as client:
        client.predict("m", ONE)
    first, second = exporter.get_finished_spans()
    assert first.name == second.name == "tensorflow.serving.PredictionService/Predict"
    assert dict(second.attributes) == {
        "rpc.system": "grpc", "rpc.service": "tensorflow.serving.PredictionService", "rpc.method": "Predict",
        "server.address": fake.address, "tfmeta.model": "m", "tfmeta.signature": "score", "tfmeta.rows": 2,
        "tfmeta.attempt": 2, "tfmeta.version": 1, "tfmeta.code": "OK"}
    assert first.attributes["tfmeta.code"] == "UNAVAILABLE" and not first.status.is_ok
    assert first.events[0].attributes["exception.message"] == "UNAVAILABLE: told to fail with UNAVAILABLE"
    for span, request in zip((first, second), fake.requests, strict=True):
        assert request[3]["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_spans_of_all_parts_are_the_callers_children(fake, exporter_and_provider, kind):
    exporter, provider = exporter_and_provider
    arguments = {"candidates": [f"m{i}" for i in range(8)]}

    async def run():
        async with AsyncClient(fake.address, model="m", telemetry=provider, max_candidates=2) as client:
            await client.score(**arguments)

    with provider.get_tracer("test").start_as_current_span("caller") as caller:
        if kind is AsyncClient:
            asyncio.run(run())
        else:
            with Client(fake.address, model="m", telemetry=provider, max_candidates=2) as client:
                client.score(**arguments)
    spans = [s for s in exporter.get_finished_spans() if s.name != "caller"]
    assert len(spans) == 5 and {s.parent.span_id for s in spans} == {caller.get_span_context().span_id}
    assert [s.attributes["tfmeta.signature"] for s in spans].count("score") == 4


def test_spans_over_rest(movie_server, exporter_and_provider):
    exporter, provider = exporter_and_provider
    with RestClient(movie_server.rest_address, telemetry=provider) as client:
        client.predict("movies", {"document": ["export"]}, signature="metadata")
        with pytest.raises(InvalidRequest):
            client.predict("movies", {"document": [1.5]}, signature="metadata")
        client.versions("movies")
    good, bad, status = exporter.get_finished_spans()
    assert good.attributes["tfmeta.code"] == "OK" and good.attributes["http.request.method"] == "POST"
    assert bad.attributes["tfmeta.code"] == "INVALID_ARGUMENT"
    assert status.attributes["http.request.method"] == "GET" and status.name.endswith("GetModelStatus")


def test_without_opentelemetry(fake, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == "opentelemetry":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with Client(fake.address) as client:
        assert client.predict("m", ONE)["status"].tolist() == [0, 0]
    with pytest.raises(ConfigError, match=r"Install tfmeta\[otel\]"):
        Client(fake.address, telemetry=True)
