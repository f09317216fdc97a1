"""The page's file and the JSON behind it."""

import concurrent.futures
import contextlib
import dataclasses
import http.client
import json
import re
import threading
import types

import numpy as np
import pyarrow.parquet as pq
import pytest
from client_models import make_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_models import NUM_ITEMS, export, make_items, title
from prometheus_client.parser import text_string_to_metric_families
from tensorflow.core.protobuf import meta_graph_pb2

from export.items.item_titles import write_titles
from tfmeta.serving import Client
from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.page.counted_servable import CountedServable
from tfmeta.serving.page.item_titles import FILE, ItemTitles
from tfmeta.serving.page.page import Page
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.rest_api import METRICS_PATH, RestApi
from tfmeta.serving.rest_reply import RestReply
from tfmeta.serving.server import EmbeddedServer
from tfmeta.serving.server_metrics import ServerMetrics

SUPPORT = [["m1", 5], ["m2", 1], ["m30", 4]]
USER = {"age": "33", "occupation": "writer", "region": "2", "likes": ["sea"]}


def get(address, path, headers=None, *, method="GET", body=None):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request(method, path, headers=headers or {}, body=body)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply, data


@pytest.fixture(scope="module")
def client(page_server):
    with Client(page_server.grpc_address, model="movies") as made:
        yield made


def test_one_file_that_asks_for_nothing_else(page_server):
    reply, data = get(page_server.rest_address, "/")
    text = data.decode("utf-8")
    assert (reply.status, reply.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    policy = reply.getheader("Content-Security-Policy")
    assert policy.startswith("default-src 'self' 'unsafe-inline';") and "http" not in policy
    assert reply.getheader("X-Content-Type-Options") == "nosniff"
    assert not re.search(r"https?:|wss?:|ftp:|[\"'`(=]\s*//|@import|url\(|\bimport\b|importScripts|XMLHttp|WebSocket|"
                         r"EventSource|sendBeacon|<iframe|<object|<embed|<base|<form[^>]*action", text, re.I)
    assert re.findall(r"\b(?:src|href|srcset|poster|data|manifest|ping)\s*=\s*[\"']([^\"']*)", text) == ["data:,"]
    assert re.findall(r"\bfetch\((.)(/[\w/]*)", text) == [("`", "/page/")]
    # Titles are other people's text.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert len(data) < 48_000


def test_every_control_has_a_name_and_every_reference_a_target(page_server):
    text = get(page_server.rest_address, "/")[1].decode("utf-8")
    markup, script = text.split("<script>")
    ids = re.findall(r'\bid="([^"]+)"', markup)
    assert len(ids) == len(set(ids))
    used = re.findall(r'\$\("([^"]+)"\)', script) + re.findall(
        r'(?:aria-controls|aria-labelledby|\bfor)="([^"]+)"', markup)
    assert set(used) <= set(ids)
    assert 'name="viewport"' in markup and "prefers-color-scheme: dark" in markup and '<html lang="en">' in markup


def test_models_and_descriptions(ask):
    status, content = ask("models")
    assert status == 200
    assert [m["name"] for m in content["models"]] == ["bare", "clicks", "films", "foreign", "movies"]
    movies = ask("describe", {"model": "movies"})[1]
    assert movies["label"] == {"name": "rating", "unit": "rating", "minimum": 1.0, "maximum": 5.0}
    assert (movies["lists"], movies["explains"], movies["by_id"], movies["names"]) == (True, True, True, "titles")
    assert (movies["items"], movies["support_bound"], movies["lacks"]) == (NUM_ITEMS, 8, None)
    features = {f["name"]: f for f in movies["user_features"]}
    assert features["occupation"]["vocabulary"] == ["artist", "farmer", "writer"]
    assert features["region"]["vocabulary"] == ["1", "2", "3"] and features["age"]["mean"] == 30
    assert movies["item_features"] == []
    clicks, films, bare = (ask("describe", {"model": name})[1] for name in ("clicks", "films", "bare"))
    assert (clicks["label"]["unit"], clicks["lists"], clicks["explains"]) == ("click", False, False)
    assert (clicks["names"], bare["names"]) == ("titles", "none")
    assert [about["percent"] for about in (movies, clicks, films)] == [False, True, False]
    assert not films["by_id"] and [f["name"] for f in films["item_features"]] == ["price", "genres"]


def test_search_by_title_and_id(ask):
    def search(text, model="movies", count=10):
        status, content = ask("search", {"model": model, "text": text, "count": count})
        assert status == 200
        return [(item["id"], item["title"]) for item in content["items"]]

    assert search("garden qui") == [("m8", title(8))]
    assert search(" qUiEt  ")[0] == ("m0", title(0)) and len(search("quiet")) == 5
    # The id itself goes before those that begin with it, titles that begin with a text before others.
    assert [i for i, _ in search("m3")][:2] == ["m3", "m30"]
    assert search("m39") == [("m39", None)]
    assert search("<b>") == [("m38", '<b>Bold & "quoted"</b>')]
    assert len(search("", count=4)) == 4 and search("nothing like it") == []
    assert search("(*[.\\") == []
    assert search("m", model="bare") == []


def test_lists_are_those_of_the_signatures(ask, client):
    status, content = ask("lists", {"model": "movies", "user": USER, "support": SUPPORT, "count": 6})
    assert status == 200 and content["source"] == "catalogue" and content["version"] == 1
    user = {"age": 33.0, "occupation": "writer", "region": 2, "likes": ["sea"]}
    support = [tuple(row) for row in SUPPORT]
    before = client.recommend(user=user, exclude=[i for i, _ in support]).items.tolist()
    after = client.recommend(user=user, support=support).items.tolist()
    assert [e["id"] for e in content["before"]] == before[:6] and [e["id"] for e in content["after"]] == after[:6]
    assert before[:6] != after[:6]
    scored = client.adapt_and_score(user=user, support=support, candidates=after[:6])
    np.testing.assert_allclose([e["after"] for e in content["after"]], scored.scores, rtol=1e-5)
    np.testing.assert_allclose([e["before"] for e in content["after"]], scored.base_scores, rtol=1e-5)
    for entry in content["before"] + content["after"]:
        assert entry["rank_before"] == (before.index(entry["id"]) + 1 if entry["id"] in before else None)
        assert entry["rank_after"] == (after.index(entry["id"]) + 1 if entry["id"] in after else None)
        assert entry["id"] not in {i for i, _ in support}
    assert {e["title"] for e in content["after"]} <= {None, '<b>Bold & "quoted"</b>'} | {title(i) for i in range(38)}


def test_without_support_both_lists_are_one(ask):
    content = ask("lists", {"model": "movies", "count": 5})[1]
    assert content["before"] == content["after"] and len(content["after"]) == 5
    assert all(e["before"] == e["after"] for e in content["after"])


def test_user_features_matter(ask):
    scores = [[e["before"] for e in ask("lists", {"model": "movies", "user": user})[1]["before"]]
              for user in ({}, {"occupation": ""}, USER)]
    assert scores[0] == scores[1] != scores[2]


def test_influence_is_that_of_explain(ask, client):
    status, content = ask("influence", {"model": "movies", "support": SUPPORT, "items": ["m5", "m7"]})
    assert status == 200
    expected = client.explain(support=[tuple(row) for row in SUPPORT], candidates=["m5", "m7"])
    np.testing.assert_allclose([item["influence"] for item in content["items"]], expected.influence, rtol=1e-4,
                               atol=1e-6)
    assert [s["title"] for s in content["support"]] == [title(1), title(2), title(30)]
    assert np.abs(expected.influence).max() > 0.01
    assert ask("influence", {"model": "movies", "items": ["m5"]})[1]["items"][0]["influence"] == []


def test_a_model_without_lists_scores_what_it_knows(ask):
    content = ask("lists", {"model": "clicks", "support": [["m9", None]], "count": 3})[1]
    assert (content["source"], content["candidates"]) == ("sample", 9)
    # An item is worth its number, adaptation adds the mean label.
    assert [(e["id"], e["before"], e["after"], e["title"]) for e in content["after"]] == [
        ("m8", 8.0, 9.0, title(8)), ("m7", 7.0, 8.0, title(7)), ("m6", 6.0, 7.0, title(6))]
    status, content = ask("lists", {"model": "bare", "support": [["m9", 1]]})
    assert status == 400 and "Add candidates by their ids" in content["error"]
    content = ask("lists", {"model": "bare", "support": [["m9", 1]], "candidates": ["m2", "m4"]})[1]
    assert content["source"] == "given" and [(e["id"], e["place"]) for e in content["after"]] == [("m4", 1), ("m2", 0)]
    status, content = ask("influence", {"model": "clicks", "support": [["m9", 1]], "items": ["m1"]})
    assert status == 400 and '"explain" not found' in content["error"]


def test_items_with_their_features(ask):
    status, content = ask("lists", {"model": "films", "support": [[{"item_id": "a", "price": "3"}, 4]]})
    assert status == 400 and "Add candidates" in content["error"]
    body = {"model": "films", "support": [[{"item_id": "a", "price": "3"}, 4], ["b", 2]],
            "candidates": [{"item_id": "x", "price": 1.5}, {"item_id": "x", "genres": ["x"]}, "y"]}
    content = ask("lists", body)[1]
    # Worth its price and ten for each genre; adaptation adds the mean label.
    assert [(e["place"], e["before"], e["after"]) for e in content["after"]] == [(1, 10, 13), (0, 1.5, 4.5), (2, 0, 3)]


def test_a_model_of_somebody_else(ask):
    status, content = ask("describe", {"model": "foreign"})
    assert status == 200 and "no signature 'metadata'" in content["lacks"]
    assert "serving_default" in content["signatures"]
    for name, more in (("lists", {}), ("influence", {"items": ["a"]})):
        status, content = ask(name, {"model": "foreign", **more})
        assert status == 400 and "no signature 'metadata'" in content["error"]
    assert ask("search", {"model": "foreign", "text": "a"}) == (200, {"items": [], "of": 0})


MOVIES = {"model": "movies"}
WRONG = [
    ("lists", b"", "'model' requires"), ("lists", b"{", "requires JSON"), ("lists", b"\xff\xfe", "requires JSON"),
    ("lists", b"[" * 100_000, "requires JSON"), ("lists", b'{"model": NaN}', "NaN"), ("lists", b"[]", "JSON object"),
    ("lists", {"model": "movies", "suport": []}, "Did you mean 'support'"),
    ("lists", {"model": 3}, "'model' requires"), ("lists", {**MOVIES, "version": "1"}, "'version' requires"),
    ("lists", {**MOVIES, "count": 0}, "1 to 100"), ("lists", {**MOVIES, "count": True}, "1 to 100"),
    ("lists", {**MOVIES, "user": []}, "'user' requires"), ("lists", {**MOVIES, "support": {}}, "'support' requires"),
    ("lists", {**MOVIES, "support": [["m1", 6]]}, "rating from 1 to 5, received 6"),
    ("lists", {**MOVIES, "support": [["m1", None]]}, "in row 0 requires a rating"),
    ("lists", {**MOVIES, "support": [["m1", 5], ["m2"]]}, r"in row 1 requires \[item, rating\]"),
    ("lists", {**MOVIES, "support": [["", 5]]}, "requires an id"),
    ("lists", {**MOVIES, "support": [[{"item_id": "m1"}, 5]]}, "requires an id"),
    ("lists", {**MOVIES, "support": [["\ud800", 5]]}, "requires text"),
    ("lists", {**MOVIES, "support": [["m1", 5]] * 3000}, "at most 2048"),
    ("lists", {**MOVIES, "user": {"agee": 3}}, "Did you mean 'age'"),
    ("lists", {**MOVIES, "user": {"age": [3, 4]}}, "'age' of the user requires one value"),
    ("lists", {**MOVIES, "user": {"age": "old"}}, "'age' of the user requires a number"),
    ("lists", {**MOVIES, "user": {"age": 10**400}}, "requires a number"),
    ("lists", {**MOVIES, "user": {"region": 1.5}}, "requires an integer"),
    ("lists", {**MOVIES, "user": {"region": 2**63}}, "requires an integer"),
    ("lists", {**MOVIES, "user": {"likes": "sea"}}, "requires a list"),
    ("lists", {**MOVIES, "user": {"likes": [["sea"]]}}, "requires text"),
    ("search", {**MOVIES, "text": 3}, "'text' requires"), ("search", {**MOVIES, "text": "x" * 300}, "at most 200"),
    ("search", {**MOVIES, "text": "\udfff"}, "'text' requires"),
    ("influence", {**MOVIES, "support": SUPPORT}, "at least one item"),
    ("influence", {**MOVIES, "items": [None]}, "in row 0 requires an id"),
    ("describe", {**MOVIES, "support": []}, "Unknown field 'support'"),
]


@pytest.mark.parametrize(("name", "body", "message"), WRONG)
def test_wrong_requests_are_400_with_words(ask, name, body, message):
    status, content = ask(name, body)
    assert status == 400 and re.search(message, content["error"]), content
    assert len(content["error"]) < 400


def test_what_is_not_there_is_404_and_other_methods_405(ask, page_server):
    assert ask("lists", {"model": "nothing"})[0] == 404
    assert ask("lists", {"model": "movies", "version": 7})[0] == 404
    assert ask("nothing", {})[0] == 404
    assert ask("lists")[0] == 405 and ask("models", {})[0] == 405
    assert get(page_server.rest_address, "/page/")[0].status == 404
    assert get(page_server.rest_address, "/", method="POST", body="")[0].status == 405


_WORDS = st.text(max_size=5) | st.sampled_from(["m1", "m2", "movies", "age", ""])
_KEYS = st.sampled_from(["item_id", "age", "region", "likes", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["describe", "search", "lists", "influence"]),
       model=st.sampled_from(["movies", "clicks", "films", "foreign"]),
       more=st.dictionaries(st.sampled_from(["user", "support", "candidates", "items", "text", "count", "version"]),
                            JSON | st.lists(st.tuples(JSON, JSON).map(list), max_size=3), max_size=4))
def test_no_request_breaks_the_server(ask, name, model, more):
    status, content = ask(name, {"model": model, **more})
    assert status in (200, 400, 404), content
    json.dumps(content, allow_nan=False)


def test_a_token_is_for_everything_but_the_file_itself(page_bases):
    token = "0123456789abcdef"
    with EmbeddedServer({"bare": page_bases["bare"]}, grpc_port=0, rest_port=0, token=BearerToken(token)) as server:
        reply, data = get(server.rest_address, "/")
        assert reply.status == 200 and b"requires a token" in data and token.encode() not in data
        for path in ("/page/models.json", "/page/describe.json", "/page/anything"):
            assert get(server.rest_address, path)[0].status == 401
        assert get(server.rest_address, "/", method="POST", body="")[0].status == 401
        reply, data = get(server.rest_address, "/page/models.json", {"Authorization": f"Bearer {token}"})
        assert reply.status == 200 and json.loads(data)["models"] == [{"name": "bare", "version": 1}]


def test_its_requests_count_among_those_that_run_at_the_same_time():
    entered, go = threading.Event(), threading.Event()

    def slow(method, path, body):
        if path.startswith("/page/"):
            entered.set()
            assert go.wait(20)
        return RestReply.of({})

    metrics = ServerMetrics()
    api = RestApi(None, threads=1, max_queued=0, metrics=metrics, pages=slow)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(api.answer, "POST", "/page/lists.json", b"{}")
        assert entered.wait(20)
        refused = api.answer("POST", "/page/lists.json", b"{}")
        assert refused.status == 429 and b"Concurrent" in refused.body
        assert api.answer("GET", "/").status == 200
        go.set()
        assert first.result().status == 200
    assert api.answer("POST", "/page/lists.json", b"{}").status == 200
    # What the pages answer, they count.
    assert counted(metrics.page()) == {("unknown", "unknown", "none", "RESOURCE_EXHAUSTED"): 1}


def counted(text):
    """(model, version, signature, code) -> the page's requests so far."""
    samples = [s for family in text_string_to_metric_families(text.decode()) for s in family.samples]
    for name in ("tfmeta_serving_requests_total", "tfmeta_serving_request_seconds_count"):
        found = [s for s in samples if s.name == name and s.labels["api"] == "page"]
        if name.endswith("total"):
            requests = {tuple(s.labels[k] for k in ("model", "version", "signature", "code")): s.value for s in found}
    assert sum(requests.values()) == sum(s.value for s in found)
    return requests


def test_its_requests_are_counted_under_what_they_ran(ask, page_server):
    def now():
        return counted(get(page_server.rest_address, METRICS_PATH)[1])

    ask("describe", {"model": "movies"})  # The first one reads the model's description.
    before = now()
    for name, body in (("describe", {"model": "movies"}), ("search", {"model": "movies", "text": "m"}),
                       ("lists", {"model": "movies", "support": SUPPORT}), ("lists", {"model": "movies"}),
                       ("influence", {"model": "movies", "support": SUPPORT, "items": ["m5"]}),
                       ("lists", {"model": "movies", "user": {"agee": 1}}), ("lists", {"model": "nothing"}),
                       ("lists", b"{"), ("influence", {"model": "clicks", "support": [["m9", 1]], "items": ["m1"]}),
                       ("models", None)):
        ask(name, body)
    grown = {key: value - before.get(key, 0) for key, value in now().items()}
    movies = ("movies", "1")
    assert {key: value for key, value in grown.items() if value and key[2] != "metadata"} == {
        (*movies, "recommend", "OK"): 2, (*movies, "adapt_and_recommend", "OK"): 1,
        (*movies, "adapt_and_score", "OK"): 2,
        (*movies, "explain", "OK"): 1, (*movies, "none", "OK"): 2, (*movies, "none", "INVALID_ARGUMENT"): 1,
        ("unknown", "unknown", "none", "NOT_FOUND"): 1, ("unknown", "unknown", "none", "INVALID_ARGUMENT"): 1,
        ("clicks", "1", "none", "FAILED_PRECONDITION"): 1}
    assert not grown.get((*movies, "metadata", "OK"))


def test_a_run_that_fails_is_counted_once():
    definition = meta_graph_pb2.SignatureDef()
    definition.inputs["document"].name, definition.outputs["json"].name = "document:0", "json:0"

    class Servable:
        name, version, path = "m", 1, "/nowhere"
        signature_defs = types.MappingProxyType({"metadata": definition})

        def run(self, signature, inputs, **_):
            raise error

    metrics, expected = ServerMetrics(), {}
    page = Page(types.SimpleNamespace(lease=lambda name, **_: contextlib.nullcontext(Servable())), metrics=metrics)
    for error, code in ((RequestError("DEADLINE_EXCEEDED", "late"), "DEADLINE_EXCEEDED"),
                        (ZeroDivisionError("oh"), "INTERNAL")):
        with pytest.raises(type(error)):
            page("POST", "/page/describe.json", b'{"model": "m"}')
        expected["m", "1", "metadata", code] = 1
        assert counted(metrics.page()) == expected


def test_it_can_be_left_out(page_bases):
    with EmbeddedServer({"bare": page_bases["bare"]}, grpc_port=0, rest_port=0, page=False) as server:
        assert [get(server.rest_address, p)[0].status for p in ("/", "/page/models.json")] == [404, 404]


def test_a_page_forgets_what_is_unloaded():
    import gc

    class Servable:
        name, version, path, signature_defs = "m", 1, "/nowhere", {}

    page, servable = Page(manager=None), Servable()
    assert page._model(CountedServable(servable, metrics=None)) is page._model(CountedServable(servable, metrics=None))
    assert len(page._known) == 1
    del servable
    gc.collect()
    assert len(page._known) == 0


def test_an_export_writes_the_titles_that_there_are(page_bases, tmp_path):
    written = pq.read_table(f"{page_bases['movies']}/1/assets.extra/{FILE}").to_pydict()
    assert written["item_id"] == [f"m{i}" for i in range(NUM_ITEMS)]
    assert written["title"][:2] + written["title"][-1:] == [title(0), title(1), None]
    items, path = make_items(integers=True), str(tmp_path / "titles.parquet")
    spec = make_spec()
    assert not write_titles(path, items, feature_spec=dataclasses.replace(spec, title=None))
    assert not write_titles(path, items.drop(columns="title"), feature_spec=dataclasses.replace(spec, title="title"))
    assert not (tmp_path / "titles.parquet").exists()
    integers = dataclasses.replace(spec, title="title", item_id=dataclasses.replace(spec.item_id, dtype="int64"))
    assert write_titles(path, items, feature_spec=integers)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "titles.parquet").rename(tmp_path / "assets.extra" / FILE)
    assert ItemTitles.read(str(tmp_path)).search("103", count=2) == [{"id": "103", "title": title(3)}]


def test_damaged_titles_count_as_none(tmp_path, caplog):
    extras = tmp_path / "assets.extra"
    extras.mkdir()
    (extras / FILE).write_bytes(b"PAR1 no parquet")
    (extras / "feature_spec.json").write_text('{"item_id": {"vocabulary": [7, 8]}}')
    titles = ItemTitles.read(str(tmp_path))
    assert (titles.source, titles.sample(5), titles.titles(["7"])) == ("ids", ["7", "8"], [None])
    assert "cannot read" in caplog.text
    (extras / "feature_spec.json").write_text("[]")
    assert ItemTitles.read(str(tmp_path)).source == "none" == ItemTitles.read(str(tmp_path / "x")).source


def test_titles_are_found_by_any_id():
    import pyarrow as pa

    ids = ["b", "a", "Z", "ä", "\U0001f600", "\uffff", "10", "9"]
    titles = ItemTitles(pa.array(ids), pa.array([f"T {i}" for i in ids]))
    assert titles.titles([*ids, "", "zz", "\U0010ffff"]) == [*(f"T {i}" for i in ids), None, None, None]
    assert ItemTitles(pa.array([], pa.string()), pa.array([], pa.string())).titles(["a"]) == [None]


def test_a_sample_is_the_same_every_time():
    import pyarrow as pa

    titles = ItemTitles(pa.array(range(1000)))
    assert titles.sample(50) == titles.sample(50) and len(set(titles.sample(50))) == 50


@pytest.mark.slow
def test_exports_of_every_kind(tmp_path):
    """Integer ids, clicks, weights and features in the request, on real exports."""
    bases = {"clicks": str(tmp_path / "clicks"), "numbers": str(tmp_path / "numbers"), "plays": str(tmp_path / "plays")}
    export(bases["clicks"], unit="click", model="embedding", scope="all", integers=True)
    export(bases["numbers"], integers=True, title=None)
    export(bases["plays"], unit="weight", item_features="request")
    with EmbeddedServer(bases, grpc_port=0, rest_port=0, warm_up=False) as server:
        def ask(name, **body):
            reply, data = get(server.rest_address, f"/page/{name}.json", method="POST", body=json.dumps(body))
            assert reply.status == 200, data
            return json.loads(data)

        for model, support in (("clicks", [["101", None], ["999", 1]]), ("numbers", [["101", 5], ["102", 1]])):
            found = ask("lists", model=model, support=support, user=USER, count=8)
            assert found["source"] == ("catalogue" if model == "numbers" else "sample")
            assert len(found["after"]) == 8 and found["after"] != found["before"]
            assert not {"101"} & {e["id"] for e in found["before"] + found["after"]}
            top = found["after"][0]
            moved = ask("influence", model=model, support=support, user=USER, items=[top["id"]])["items"][0]
            assert len(moved["influence"]) == 2 and moved["after"] == pytest.approx(top["after"], rel=1e-5)
        assert ask("describe", model="numbers")["names"] == "ids"
        item = {"item_id": "a", "genres": ["drama"], "year": "1999"}
        body = {"model": "plays", "support": [[item, 7.5]], "user": USER}
        found = ask("lists", **body, candidates=["b", {"item_id": "c", "year": 1960}])
        assert {e["place"] for e in found["after"]} == {0, 1}
        assert len(ask("influence", **body, items=["b"])["items"][0]["influence"]) == 1
