"""The REST API of the embedded server, over real HTTP."""

import base64
import concurrent.futures
import json
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.errors import ServingError
from tfmeta.serving.client import Client
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.rest_api import RestApi
from tfmeta.serving.rest_codec import write_reply
from tfmeta.serving.server import EmbeddedServer
from tfmeta.serving.version_policy import VersionPolicy


@pytest.fixture(scope="module")
def server(small_model_base):
    with EmbeddedServer({"small": small_model_base}, grpc_port=0, rest_port=0) as running:
        yield running


def call(server, path, body=None):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.rest_address}/v1/models/{path}", data=data)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


ADAPT = {"support_item_id": [["1", "2"]], "support_label": [[4.0, 2]], "support_length": [2],
         "query_item_id": [["3", "x"]]}


def test_columns_rows_and_grpc_agree(server):
    status, columns = call(server, "small:predict", {"signature_name": "adapt_and_score", "inputs": ADAPT})
    assert status == 200 and columns["outputs"]["scores"] == [[106.0, 102.0]]
    row = {name: value[0] for name, value in ADAPT.items()}
    _, rows = call(server, "small:predict", {"signature_name": "adapt_and_score", "instances": [row, row]})
    assert rows["predictions"] == [{name: value[0] for name, value in columns["outputs"].items()}] * 2
    with Client(server.grpc_address) as client:
        by_grpc = client.predict("small", {
            "support_item_id": np.array(ADAPT["support_item_id"]), "support_length": np.array([2], np.int32),
            "support_label": np.array(ADAPT["support_label"], np.float32),
            "query_item_id": np.array(ADAPT["query_item_id"])}, signature="adapt_and_score")
    for name, value in columns["outputs"].items():
        np.testing.assert_array_equal(np.array(value, np.float32), by_grpc[name])


def test_version_single_input_and_base64(server):
    _, old = call(server, "small/versions/3:predict", {"inputs": {"query_item_id": [["1"]]}})
    assert old["outputs"]["scores"] == [[101.0]]
    encoded = {"b64": base64.b64encode(b"2").decode()}
    _, alone = call(server, "small:predict", {"instances": [["1", encoded]]})
    assert alone["predictions"] == [{"scores": [101.0, 102.0], "status": 0}]


def test_status_and_metadata(server):
    ok = {"error_code": "OK", "error_message": ""}
    assert call(server, "small") == (200, {"model_version_status": [
        {"version": "3", "state": "AVAILABLE", "status": ok}]})
    status, metadata = call(server, "small/metadata")
    assert status == 200 and metadata["model_spec"] == {"name": "small", "signature_name": "", "version": "3"}
    assert "adapt_and_score" in metadata["metadata"]["signature_def"]["signature_def"]


@pytest.fixture(scope="module")
def labelled(write_version, tmp_path_factory):
    """Two versions under labels, of a signature with one input, int64, and one output."""
    base = tmp_path_factory.mktemp("labelled")
    for version in (1, 2):
        write_version(base, version)
    model = ModelConfig("m", str(base), VersionPolicy(kind="all"), {"stable": 1, "canary": 2})
    with EmbeddedServer([model], grpc_port=0, rest_port=0, warm_up=False) as running:
        yield running


@pytest.mark.parametrize(("where", "version"), [("m", 2), ("m/versions/1", 1), ("m/versions/2", 2),
                                                ("m/labels/stable", 1), ("m/labels/canary", 2)])
def test_versions_and_labels_in_every_path(labelled, where, version):
    assert call(labelled, f"{where}:predict", {"inputs": [[7]]}) == (200, {"outputs": [[1000.0 * version + 7]]})
    status, metadata = call(labelled, f"{where}/metadata")
    assert status == 200 and metadata["model_spec"]["version"] == str(version)
    status, states = call(labelled, where)
    listed = [s["version"] for s in states["model_version_status"]]
    assert status == 200 and listed == (["2", "1"] if where == "m" else [str(version)])


def test_a_single_output_has_no_name(labelled):
    """Nor does a single input need one."""
    for body, reply in (({"inputs": {"item": [[1, 2]]}}, {"outputs": [[2001.0, 2002.0]]}),
                        ({"inputs": [[1, 2]]}, {"outputs": [[2001.0, 2002.0]]}),
                        ({"instances": [{"item": [1]}, {"item": [2]}]}, {"predictions": [[2001.0], [2002.0]]}),
                        ({"instances": [[1], [2]], "signature_name": "score"}, {"predictions": [[2001.0], [2002.0]]})):
        assert call(labelled, "m:predict", body) == (200, reply)


@pytest.mark.parametrize("value", [1.5, 1.0, "1", True, None, 2**63])
def test_int64_takes_whole_numbers_alone(labelled, value):
    status, reply = call(labelled, "m:predict", {"inputs": [[value]]})
    assert status == 400 and reply["error"].endswith("is not of expected type: int64"), reply


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.int64, np.bool_])
@pytest.mark.parametrize("rows", [False, True])
def test_numbers_of_a_reply_come_back_to_the_bit(dtype, rows):
    values = (np.random.default_rng(0).normal(size=(4, 3)) * 100).astype(dtype)
    # A view with gaps, a scalar a row, and strings beside the numbers.
    texts = np.array([b"a", b"b"] * 2, object)
    outputs = {"all": values, "gaps": values[::-1, ::2], "one": values[:, 0], "text": texts}
    reply = json.loads(write_reply(outputs, rows=rows))
    found = {name: [row[name] for row in reply["predictions"]] if rows else reply["outputs"][name] for name in outputs}
    for name in ("all", "gaps", "one"):
        np.testing.assert_array_equal(np.array(found[name], dtype), outputs[name])
    assert found["text"] == ["a", "b", "a", "b"]


def test_a_float32_has_its_fewest_digits_and_what_is_not_finite_its_name():
    assert write_reply({"s": np.array([1.1, 2.0], np.float32)}, rows=False) == b'{"outputs":[1.1,2.0]}'
    assert write_reply({"s": np.array(3, np.int32)}, rows=False) == b'{"outputs":3}'
    reply = write_reply({"s": np.array([1.5, np.nan, -np.inf], np.float32), "t": np.array([1, 2, 3])}, rows=True)
    rows = json.loads(reply)["predictions"]
    assert b"NaN" in reply and b"-Infinity" in reply and [row["t"] for row in rows] == [1, 2, 3]
    np.testing.assert_array_equal([row["s"] for row in rows], [1.5, np.nan, -np.inf])
    with pytest.raises(RequestError, match="s has no shape information"):
        write_reply({"s": np.array(3.0, np.float32)}, rows=True)


def test_strings_are_text_and_those_called_bytes_are_base64():
    values = np.array([[b"a", "é".encode()]], object)
    reply = json.loads(write_reply({"name": values, "raw_bytes": values}, rows=False))
    assert reply == {"outputs": {"name": [["a", "é"]], "raw_bytes": [[{"b64": "YQ=="}, {"b64": "w6k="}]]}}


def row(**changes):
    return {**{name: value[0] for name, value in ADAPT.items()}, **changes}


def adapted(**changes):
    return {"signature_name": "adapt_and_score", "inputs": {**ADAPT, **changes}}


def adapted_rows(*rows):
    return {"signature_name": "adapt_and_score", "instances": list(rows)}


ERROR = "Failed to process element: {} key: {} of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize("path,body,code,message", [
    ("nope:predict", {"inputs": {}}, 404, "Servable not found for request: Latest(nope)"),
    ("small/versions/7:predict", {"inputs": {}}, 404, "Servable not found for request: Specific(small, 7)"),
    ("small/labels/canary:predict", {"inputs": {}}, 400, "Unrecognized servable version label: canary"),
    ("small/labels/canary", None, 400, "Unrecognized servable version label: canary"),
    ("small/labels/canary/metadata", None, 400, "Unrecognized servable version label: canary"),
    ("nope", None, 404, "Could not find any versions of model nope"),
    ("small/versions/9", None, 404, "Could not find version 9 of model small"),
    ("nope/metadata", None, 404, "Servable not found for request: Latest(nope)"),
    ("small:classify", {"inputs": {}}, 400, "Malformed request: POST /v1/models/small:classify"),
    ("small:predict", None, 400, "Malformed request: GET /v1/models/small:predict"),
    ("small/versions/one", None, 400, "Malformed request: GET /v1/models/small/versions/one"),
    (f"small/versions/{2**63}", None, 400, f"Failed to convert version: {2**63} to numeric."),
    ("small:predict", b"{", 400, "JSON Parse error: Expecting property name enclosed in double quotes at offset: 1"),
    ("small:predict", b"", 400, "JSON Parse error: The document is empty"),
    ("small:predict", b"\xff", 400, "JSON Parse error: "),
    ("small:predict", b"[" * 100_000, 400, "JSON Parse error: "),
    ("small:predict", [1], 400, "Is not object"),
    ("small:predict", {"signature_name": 1}, 400, "'signature_name' key must be a string value."),
    ("small:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
    ("small:predict", {"inputs": {}, "instances": []}, 400,
     "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"),
    ("small:predict", {"instances": {}}, 400, "Excepting 'instances' to be an list/array"),
    ("small:predict", {"instances": []}, 400, "No values in 'instances' array"),
    ("small:predict", {"signature_name": "zz", "inputs": {}}, 400,
     'Serving signature name: "zz" not found in signature def'),
    ("small:predict", {"signature_name": "__saved_model_init_op", "inputs": {}}, 400,
     'Serving signature key "__saved_model_init_op" not found.'),
    ("small:predict", {"inputs": {"wrong": [["1"]]}}, 400, "Missing named input: query_item_id in 'inputs' object."),
    ("small:predict", {**adapted(), "inputs": [1]}, 400, "inputs is a plain value/list, but expecting an object"),
    ("small:predict", adapted_rows([1]), 400, "instances is a plain list, but expecting list of objects"),
    ("small:predict", adapted_rows(row(), [1]), 400, "Expecting object but got list at item 1 of input list"),
    ("small:predict", {"instances": [["1"], {"query_item_id": ["1"]}]}, 400,
     "Expecting value/list but got object at item 1 of input list"),
    ("small:predict", adapted_rows({"zz": 1}), 400,
     ERROR.format(0, "zz") + "JSON object: does not have named input: zz"),
    ("small:predict", adapted_rows(row(), {"support_length": 1}), 400,
     "keys must be equal to: query_item_id,support_item_id,support_label,support_length"),
    ("small:predict", adapted_rows(row(), row(query_item_id=["3"])), 400,
     ERROR.format(1, "query_item_id") + "Expecting tensor size: 2 but got: 1"),
    ("small:predict", adapted_rows(row(), row(query_item_id=[["3"], ["4"]])), 400,
     ERROR.format(1, "query_item_id") + "Expecting shape [2] but got: [2,1]"),
    ("small:predict", adapted_rows(row(), row(support_length=1.5)), 400,
     ERROR.format(1, "support_length") + "JSON Value: 1.5 Type: Number is not of expected type: int32"),
    ("small:predict", {"inputs": {"query_item_id": [["1"], ["1", "2"]]}}, 400,
     "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
    ("small:predict", {"inputs": {"query_item_id": [["1"], "2"]}}, 400,
     'JSON Value: "2" found at incorrect level: 2 in the JSON DOM. Expected at level: 2'),
    ("small:predict", {"inputs": {"query_item_id": [["1", ["2"]]]}}, 400,
     "Encountered list at unexpected level: 2 expected < 2"),
    ("small:predict", {"inputs": {"query_item_id": [[1]]}}, 400,
     "JSON Value: 1 Type: Number is not of expected type: string"),
    ("small:predict", {"inputs": {"query_item_id": [[]]}}, 400, "has no elements"),
    ("small:predict", {"inputs": {"query_item_id": [[{"b64": "?"}]]}}, 400, "Unable to base64 decode"),
    ("small:predict", {"inputs": {"query_item_id": [[{"b65": "?"}]]}}, 400, "not formatted correctly for base64 data"),
    ("small:predict", adapted(support_length=[1.5]), 400,
     "JSON Value: 1.5 Type: Number is not of expected type: int32"),
    ("small:predict", adapted(support_length=[1.0]), 400,
     "JSON Value: 1.0 Type: Number is not of expected type: int32"),
    ("small:predict", adapted(support_length=[True]), 400,
     "JSON Value: true Type: True is not of expected type: int32"),
    ("small:predict", adapted(support_length=[None]), 400,
     "JSON Value: null Type: Null is not of expected type: int32"),
    ("small:predict", adapted(support_length=[2**40]), 400,
     f"JSON Value: {2**40} Type: Number is not of expected type: int32"),
    ("small:predict", adapted(support_label=[["4", 2]]), 400,
     'JSON Value: "4" Type: String is not of expected type: float'),
    ("small:predict", adapted(support_label=[[1e39, 2]]), 400,
     "Cannot convert JSON value: 1e+39 to float without loss of precision."),
    ("small:predict", adapted(support_label=[[2**24, 2]]), 400,
     "Cannot convert JSON value: 16777216 to float without loss of precision."),
    # The graph's own error: labels of another rank than items.
    ("small:predict", adapted(support_label=[[[1.0, 2.0, 3.0]] * 2]), 400, ""),
])
def test_errors_are_one_json_object_with_the_right_code(server, path, body, code, message):
    status, reply = call(server, path, body)
    assert (status, set(reply)) == (code, {"error"})
    assert message in reply["error"]


def test_not_a_number_and_infinity_are_values(server):
    status, reply = call(server, "small:predict", adapted(support_label=[[float("nan"), float("inf")]]))
    assert status == 200 and reply["outputs"]["status"] == [1]


def test_codes_of_http():
    class Failing:
        def lease(self, **_):
            raise RequestError(code, "words")

    expected = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "NOT_FOUND": 404,
                "RESOURCE_EXHAUSTED": 429, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504,
                "INTERNAL": 500, "UNKNOWN": 500}
    for code, status in expected.items():  # noqa: B007 - read by Failing
        reply = RestApi(Failing(), threads=1).answer("POST", "/v1/models/m:predict", b"{}")
        assert (reply.status, json.loads(reply.body)) == (status, {"error": "words"})


def test_limits_of_concurrency():
    class Slow:
        def lease(self, **_):
            entered.set()
            assert go.wait(20)
            raise RequestError("NOT_FOUND", "done")

    entered, go = threading.Event(), threading.Event()
    api = RestApi(Slow(), threads=1, max_queued=1, timeout=0.2)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        first = pool.submit(api.answer, "POST", "/v1/models/m:predict", b"{}")
        assert entered.wait(20)
        second = pool.submit(api.answer, "POST", "/v1/models/m:predict", b"{}")
        statuses = []
        while not second.done():
            statuses.append(api.answer("POST", "/v1/models/m:predict", b"{}").status)
        assert second.result().status == 504
        go.set()
        assert first.result().status == 404
    assert set(statuses) <= {429, 504} and 429 in statuses


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
                      lambda inner: (st.lists(inner, max_size=3)
                                     | st.dictionaries(st.text(max_size=3), inner, max_size=3)), max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(ADAPT)), VALUES, st.booleans())
def test_no_value_makes_the_server_fail(server, name, value, rows):
    inputs = {**ADAPT, name: value}
    body = {"instances": [{k: v[0] if isinstance(v, list) and v else v for k, v in inputs.items()}]} if rows else {
        "inputs": inputs}
    status, reply = call(server, "small:predict", {"signature_name": "adapt_and_score", **body})
    assert status in (200, 400), reply


def test_ports(small_model_base, server):
    taken = int(server.rest_address.rpartition(":")[2])
    with pytest.raises(ServingError, match=f"Port {taken} of"):
        EmbeddedServer({"small": small_model_base}, grpc_port=0, rest_port=taken).start()
    with pytest.raises(ServingError, match="0 to 65535"):
        EmbeddedServer({"small": small_model_base}, rest_port=70000)
