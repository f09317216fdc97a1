"""Retries, deadlines, chunks, version changes and options against a server that misbehaves on demand."""

import asyncio
import dataclasses
import random

import numpy as np
import pytest
from client_models import make_spec
from fake_server import FakeServer

from tfmeta.errors import ConfigError, ServingError
from tfmeta.serving import AsyncClient, Client, RestClient
from tfmeta.serving.client import (
    AccessDenied,
    ClientOptions,
    DeadlineExceeded,
    Exhausted,
    InvalidRequest,
    KeepAlive,
    NotFound,
    RetryPolicy,
    Tls,
    Unavailable,
)
from tfmeta.serving.client.client_options import is_loopback
from tfmeta.serving.request_error import RequestError

ONE = {"query_movie": np.array([["m5"]])}


@pytest.fixture
def server():
    server = FakeServer()
    yield server
    server.close()


class Clock:
    """Time that passes only where something sleeps."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def drive(self, client):
        client._clock, client._sleep, client._rng = self, self.sleep, random.Random(3)
        return client


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def flaky(server, clock):
    retry = RetryPolicy(attempts=4, initial=0.5, maximum=1.5)
    with clock.drive(Client(server.address, model="m", retry=retry)) as client:
        yield client


def test_delays_are_full_jitter_within_a_growing_limit():
    policy, rng = RetryPolicy(attempts=10, initial=0.1, maximum=2.0), random.Random(0)
    for attempt in range(1, 10):
        limit = min(2.0, 0.1 * 2 ** (attempt - 1))
        draws = [policy.delay("UNAVAILABLE", attempt=attempt, remaining=9.0, rng=rng) for _ in range(500)]
        assert max(draws) <= limit and max(draws) > 0.97 * limit and min(draws) < 0.03 * limit
    assert policy.delay("UNAVAILABLE", attempt=10, remaining=9.0, rng=rng) is None
    assert policy.delay("INTERNAL", attempt=1, remaining=9.0, rng=rng) is None
    assert policy.delay("RESOURCE_EXHAUSTED", attempt=1, remaining=9.0, rng=rng) is None
    asked = dataclasses.replace(policy, exhausted=True)
    assert asked.delay("RESOURCE_EXHAUSTED", attempt=1, remaining=9.0, rng=rng) is not None


def test_unavailable_is_retried_until_it_answers(server, flaky, clock):
    server.failures = ["UNAVAILABLE"] * 3
    assert flaky.predict("m", ONE)["scores"].tolist() == [[np.float32(5.1)]]
    assert len(server.requests) == 4 and len(clock.slept) == 3
    assert all(0 <= s <= limit for s, limit in zip(clock.slept, (0.5, 1.0, 1.5), strict=True))


def test_attempts_and_codes_that_are_not_retried(server, flaky, clock):
    server.failures = ["UNAVAILABLE"] * 9
    with pytest.raises(Unavailable, match="told to fail with UNAVAILABLE"):
        flaky.predict("m", ONE)
    assert len(server.requests) == 4
    for code, kind in (("RESOURCE_EXHAUSTED", Exhausted), ("PERMISSION_DENIED", AccessDenied),
                       ("INVALID_ARGUMENT", InvalidRequest), ("INTERNAL", RequestError)):
        server.requests.clear()
        server.failures = [code]
        with pytest.raises(kind, match=f"told to fail with {code}") as caught:
            flaky.predict("m", ONE)
        assert caught.value.code == code and type(caught.value) is kind and len(server.requests) == 1


def test_exhausted_is_retried_if_asked(server, clock):
    with clock.drive(Client(server.address, retry=RetryPolicy(exhausted=True))) as client:
        server.failures = ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]
        assert client.predict("m", ONE)["status"].tolist() == [0]


def test_no_retry_beyond_the_deadline(server, clock):
    with clock.drive(Client(server.address, retry=RetryPolicy(attempts=99, initial=4.0, maximum=4.0))) as client:
        server.failures = ["UNAVAILABLE"] * 99
        with pytest.raises(Unavailable):
            client.predict("m", ONE, timeout=9.0)
        assert sum(clock.slept) < 9.0 and 2 <= len(server.requests) < 99
        # Every attempt is given what is left of the whole call's time.
        left = 9.0 - np.concatenate([[0], np.cumsum(clock.slept)])
        np.testing.assert_allclose(server.times, left[:len(server.times)], atol=1.5)


def test_deadline_of_a_slow_server(server):
    with Client(server.address) as client:
        server.failures = [0.5]
        with pytest.raises(DeadlineExceeded):
            client.predict("m", ONE, timeout=0.1)
        with pytest.raises(DeadlineExceeded, match="0 s of the call had passed"):
            client.predict("m", ONE, timeout=0.0)


def test_no_server():
    for kind in (Client, RestClient):
        with kind("127.0.0.1:1") as client:
            with pytest.raises(Unavailable, match="onnect"):
                client.predict("m", ONE, timeout=0.5)
            with pytest.raises(Unavailable):
                client.wait_until_available("m", timeout=0.3)


def test_waiting_for_a_model(server, clock):
    with clock.drive(Client(server.address, retry=RetryPolicy(attempts=1))) as client:
        server.failures = ["UNAVAILABLE", "NOT_FOUND"]
        assert client.wait_until_available("m", timeout=5.0) == 1 and len(clock.slept) == 2
        server.versions = []
        with pytest.raises(Unavailable, match="no available version"):
            client.wait_until_available("m", timeout=1.0)


def test_long_lists_and_large_batches_are_sent_in_parts(server):
    with Client(server.address, model="m", max_batch=4, max_candidates=10, parallel=3) as client:
        counts = [25, 0, 10, 11, 3, 1, 7, 20, 30]
        lists = [[f"m{u * 100 + i}" for i in range(n)] for u, n in enumerate(counts)]
        results = client.score(candidates=lists)
        for user, (result, count) in enumerate(zip(results, counts, strict=True)):
            np.testing.assert_array_equal(result.scores, np.float32(user * 100 + np.arange(count) + 0.1))
        shapes = [r[2]["query_movie"].shape for r in server.asked("score")]
        assert max(s[0] for s in shapes) <= 4 and max(s[1] for s in shapes) <= 10 and min(s[1] for s in shapes) >= 1
        # First requests of each batch of users, and then only the users whose lists go on.
        assert sorted(shapes) == sorted([(4, 10), (2, 10), (1, 5), (4, 10), *[(1, 10)] * 4])
        shared = client.score(user=[{}] * 9, candidates=lists[0])
        for result in shared:
            np.testing.assert_array_equal(result.scores, np.float32(np.arange(25) + 0.1))
        supports = [[("m1", 1.0)] * n for n in (9, 0, 2)]
        server.requests.clear()
        client.adapt_and_score(support=supports, candidates=["m1"])
        ((_, _, inputs, _),) = server.asked("adapt_and_score")
        assert inputs["support_movie"].shape == (3, 4), "the last 4, which is the model's bound"
        assert inputs["support_length"].tolist() == [4, 0, 2]
        assert inputs["support_length"].dtype == np.int32 and inputs["support_label"].dtype == np.float32


def test_the_last_interactions_are_kept_and_an_empty_support_has_width_1(server):
    with Client(server.address, model="m") as client:
        client.adapt_and_score(support=[(f"m{i}", i) for i in range(7)], candidates=["m1"])
        client.adapt_and_score(candidates=["m1"])
        long, empty = (r[2] for r in server.asked("adapt_and_score"))
        assert long["support_movie"].tolist() == [[b"m3", b"m4", b"m5", b"m6"]]
        assert long["support_label"].tolist() == [[3, 4, 5, 6]]
        assert empty["support_movie"].tolist() == [[b""]] and empty["support_length"].tolist() == [0]
        assert np.isnan(empty["user_age"]).all() and empty["user_tags"].shape == (1, 3)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_one_version_answers_all_parts(server, kind):
    """The model is replaced after the first part, and the old version unloaded after the second."""
    server.versions = [1, 2]
    loop = asyncio.new_event_loop()
    client = kind(server.address, model="m", max_candidates=2, parallel=1)

    def run(call):
        return loop.run_until_complete(call) if kind is AsyncClient else call

    answered = []

    def after(signature):
        if signature == "score":
            answered.append(None)
            server.versions = {1: [1, 2, 3], 2: [3]}.get(len(answered), server.versions)

    server.after = after
    result = run(client.score(candidates=[f"m{i}" for i in range(6)]))
    assert result.version == 3
    np.testing.assert_array_equal(result.scores, np.float32(np.arange(6) + 0.3))
    assert [r[1] for r in server.asked("score")] == [None, 2, 2, None, 3, 3]
    run(client.close()) if kind is AsyncClient else client.close()
    loop.close()


def test_a_new_version_is_described_again_and_asked_again_if_it_reads_requests_differently(server):
    with Client(server.address, model="m") as client:
        client.score(user={"age": 1.0}, candidates=["m1"])
        assert len(server.asked("metadata")) == 1
        server.versions = [1, 2]
        assert client.score(user={"age": 1.0}, candidates=["m1"]).version == 2
        assert (len(server.asked("metadata")), len(server.asked("score"))) == (2, 2), "the same features: sent once"
        spec = make_spec()
        server.specs[3] = dataclasses.replace(spec, user_features=(*spec.user_features[:3], dataclasses.replace(
            spec.user_features[3], length=5)))
        server.versions = [3]
        client.score(user={"age": 1.0}, candidates=["m1"])
        assert [r[2]["user_place"].shape for r in server.asked("score")][2:] == [(1, 2), (1, 5)]
        # What the known version does not know, the new one may.
        server.specs[4] = dataclasses.replace(spec, user_features=(*spec.user_features, dataclasses.replace(
            spec.user_features[0], name="height")))
        server.versions = [4]
        client.score(user={"height": 1.0}, candidates=["m1"])
        assert "user_height" in server.asked("score")[-1][2]


def test_descriptions_age_and_explicit_versions_do_not(server, clock):
    with clock.drive(Client(server.address, model="m", description_age=60.0)) as client:
        for expected, passed in ((1, 0), (1, 50), (2, 20)):
            clock.now += passed
            client.score(candidates=["m1"])
            assert len(server.asked("metadata")) == expected
        for expected, passed in ((3, 0), (3, 1000)):
            clock.now += passed
            client.score(candidates=["m1"], version=1)
            assert len(server.asked("metadata")) == expected
        with pytest.raises(NotFound, match=r"Specific\(m, 9\)"):
            client.score(candidates=["m1"], version=9)


def test_a_description_that_is_none(server):
    with Client(server.address, model="m") as client:
        server.document = lambda name, version: "{"
        with pytest.raises(ServingError, match="requires a description that this version of tfmeta reads"):
            client.score(candidates=["m1"])


def test_token_and_headers(server):
    tokens = iter(["first", "second"])
    with Client(server.address, token=lambda: next(tokens), headers=(("x-tenant", "a"),)) as client:
        client.predict("m", ONE)
        client.predict("m", ONE)
    assert [(r[3]["authorization"], r[3]["x-tenant"]) for r in server.requests] == [
        ("Bearer first", "a"), ("Bearer second", "a")]
    for kind in (Client, AsyncClient, RestClient):
        with pytest.raises(ConfigError, match=r"A token requires TLS to 'example\.org:1'"):
            kind("example.org:1", token="secret")
    Client("example.org:1", token="secret", insecure_token=True).close()
    assert "secret" not in repr(ClientOptions(token="secret"))


@pytest.mark.parametrize(("address", "expected"), [
    ("127.0.0.1:8500", True), ("localhost:1", True), ("[::1]:8500", True), ("unix:/tmp/s", True), ("::1", True),
    ("http://127.0.0.1:8501/v", True), ("dns:///localhost:1", True), ("ipv4:127.0.0.1:1", True), ("10.0.0.1:1", False),
    ("localhost.example.org:1", False), ("https://example.org", False), ("0.0.0.0:1", False)])
def test_loopback(address, expected):
    assert is_loopback(address) is expected


@pytest.mark.parametrize(("build", "message"), [
    (lambda: Client("h:1", time_out=3), "Unknown client option 'time_out'. Did you mean 'timeout'"),
    (lambda: ClientOptions(timeout=0), "'timeout' requires more than 0"),
    (lambda: ClientOptions(max_batch=0), "'max_batch' requires at least 1"),
    (lambda: RetryPolicy(attempts=0), "at least 1"), (lambda: RetryPolicy(initial=2, maximum=1), "retry.maximum"),
    (lambda: KeepAlive(time=0.1), "keep_alive.time"), (lambda: Tls(client_cert="c.pem"), "client_key, or neither"),
    (lambda: Client("h:1", tls=Tls(root_cert="/none.pem")), "'/none.pem': No such file"),
    (lambda: RestClient("https://h:1", tls=Tls(root_cert="/none.pem")), "requires PEM files"),
    (lambda: RestClient("nothing"), "requires an address as host:port"),
    (lambda: RestClient("http://h:1", tls=Tls()), "with tls"), (lambda: RestClient("ftp://h:1"), "requires an address"),
    (lambda: Client("h:1").score(candidates=["m1"]), "requires the name of a model"),
    (lambda: Client("h:1").recommend("m", count=0), "count requires at least 1")])
def test_options_are_checked(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


def test_keep_alive_reaches_the_channel(server):
    options = dict(KeepAlive(time=30, without_calls=True).grpc_options())
    assert options["grpc.keepalive_time_ms"] == 30000 and options["grpc.keepalive_permit_without_calls"] == 1
    with Client(server.address, keep_alive=KeepAlive()) as client:
        assert client.predict("m", ONE)["status"].tolist() == [0]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    ours, theirs = authority.issue_cert("client"), authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    theirs.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    ours.private_key_pem.write_to_path(str(folder / "key.pem"))
    ours.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return folder, authority, theirs


def test_tls_with_client_certificates(certificates):
    import grpc

    folder, authority, theirs = certificates
    credentials = grpc.ssl_server_credentials(
        [(theirs.private_key_pem.bytes(), theirs.cert_chain_pems[0].bytes())],
        root_certificates=authority.cert_pem.bytes(), require_client_auth=True)
    server, ca = FakeServer(credentials=credentials), str(folder / "ca.pem")
    full = Tls(root_cert=ca, client_cert=str(folder / "cert.pem"), client_key=str(folder / "key.pem"))
    once = RetryPolicy(attempts=1)
    with Client(server.address, tls=full, token="secret") as client:
        assert client.predict("m", ONE)["status"].tolist() == [0]
        assert server.requests[0][3]["authorization"] == "Bearer secret"
    named = server.address.replace("localhost", "127.0.0.1")
    with Client(named, tls=dataclasses.replace(full, server_name="localhost")) as client:
        assert client.predict("m", ONE)["status"].tolist() == [0]
    for tls in (Tls(root_cert=ca), dataclasses.replace(full, root_cert=None), None):
        with Client(server.address, tls=tls, retry=once) as client, pytest.raises(Unavailable):
            client.predict("m", ONE, timeout=5.0)

    async def over_asyncio():
        async with AsyncClient(server.address, tls=full) as client:
            return await client.predict("m", ONE)

    assert asyncio.run(over_asyncio())["status"].tolist() == [0]
    server.close()


def test_a_protected_embedded_server(certificates, model_bases):
    """TLS, client certificates and a token, over gRPC, asyncio and REST."""
    from tfmeta.serving import EmbeddedServer
    from tfmeta.serving.lifecycle.bearer_token import BearerToken
    from tfmeta.serving.lifecycle.tls_files import TlsFiles

    folder, _, _ = certificates
    ca, pem, token = str(folder / "ca.pem"), str(folder / "server.pem"), "a secret of many characters".replace(" ", "-")
    tls = Tls(root_cert=ca, client_cert=str(folder / "cert.pem"), client_key=str(folder / "key.pem"),
              server_name="localhost")
    with EmbeddedServer({"clicks": model_bases["clicks"]}, grpc_port=0, rest_port=0, token=BearerToken(token),
                        tls=TlsFiles(pem, pem, client_ca=ca)) as protected:

        async def over_asyncio(**options):
            async with AsyncClient(protected.grpc_address, tls=tls, model="clicks", **options) as client:
                return await client.score(candidates=["m3"])

        def blocking(kind, address, **options):
            with kind(address, tls=tls, model="clicks", **options) as client:
                return client.score(candidates=["m3"])

        for ask in (lambda **o: asyncio.run(over_asyncio(**o)),
                    lambda **o: blocking(Client, protected.grpc_address, **o),
                    lambda **o: blocking(RestClient, protected.rest_address, **o)):
            assert ask(token=token).scores.tolist() == [3]
            for wrong in ("another-secret-of-many-characters", None):
                with pytest.raises(AccessDenied) as caught:
                    ask(token=wrong)
                assert caught.value.code == "UNAUTHENTICATED"


def test_async_calls_run_side_by_side_and_retry(server):
    async def run():
        async with AsyncClient(server.address, model="m", retry=RetryPolicy(initial=0.001)) as client:
            await client.describe()
            server.failures = ["UNAVAILABLE", 1.0, 1.0, "UNAVAILABLE"]
            loop = asyncio.get_running_loop()
            begun = loop.time()
            results = await asyncio.gather(*(client.score(candidates=[f"m{i}"]) for i in range(6)))
            assert loop.time() - begun < 1.9
            assert [round(float(r.scores[0]), 3) for r in results] == [i + 0.1 for i in range(6)]
            server.failures = [1.0]
            with pytest.raises(DeadlineExceeded):
                await client.score(candidates=["m1"], timeout=0.05)
            with pytest.raises(InvalidRequest, match="has no elements"):
                await client.predict("m", {"query_movie": np.zeros((1, 0), "U1")})

    asyncio.run(run())
