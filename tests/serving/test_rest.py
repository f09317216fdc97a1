"""The REST API of the embedded server, over real HTTP."""

import base64
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.errors import ServingError
from tfmeta.serving.client import Client
from tfmeta.serving.server import EmbeddedServer


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


@pytest.mark.parametrize("path,body,code,message", [
    ("nope:predict", {"inputs": {}}, 404, "Servable not found for request: Latest(nope)"),
    ("small/versions/7:predict", {"inputs": {}}, 404, "Servable not found for request: Specific(small, 7)"),
    ("small/labels/canary:predict", {"inputs": {}}, 400, "Unrecognized servable version label: canary"),
    ("nope", None, 404, "Could not find any versions of model nope"),
    ("small:classify", {"inputs": {}}, 404, "Malformed request: POST /v1/models/small:classify"),
    ("small:predict", b"{", 400, "JSON Parse error"),
    ("small:predict", {}, 400, "exactly one of"),
    ("small:predict", {"inputs": {}, "instances": []}, 400, "exactly one of"),
    ("small:predict", {"instances": []}, 400, "at least one row"),
    ("small:predict", {"signature_name": "zz", "inputs": {}}, 400,
     'Serving signature name: "zz" not found in signature def'),
    ("small:predict", {"inputs": {"a": [["1"]], "b": [["1"]]}}, 400, "input size does not match signature: 2!=1"),
    ("small:predict", {"inputs": {"wrong": [["1"]]}}, 400, "Signature input alias: query_item_id"),
    ("small:predict", {"inputs": {"query_item_id": [["1"], ["1", "2"]]}}, 400, "rows of one length"),
    ("small:predict", {"inputs": {"query_item_id": [[1]]}}, 400, "requires strings"),
    ("small:predict", {"inputs": {"query_item_id": [[]]}}, 400, "has no elements"),
    ("small:predict", {"inputs": {"query_item_id": [[{"b64": "?"}]]}}, 400, "not base64"),
    ("small:predict", {"signature_name": "adapt_and_score", "inputs": {**ADAPT, "support_length": [1.5]}}, 400,
     "requires numbers of type int32"),
    ("small:predict", {"signature_name": "adapt_and_score", "inputs": {**ADAPT, "support_length": [2**40]}}, 400,
     "out of the range of int32"),
])
def test_errors_are_one_json_object_with_the_right_code(server, path, body, code, message):
    status, reply = call(server, path, body)
    assert status == code and set(reply) == {"error"} and message in reply["error"]


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


def test_size_limit_and_ports(small_model_base):
    with EmbeddedServer({"small": small_model_base}, grpc_port=0, rest_port=0, max_message_bytes=1000) as server:
        status, reply = call(server, "small:predict", {"inputs": {"query_item_id": [["1" * 2000]]}})
        assert status == 413 and "at most 1000 bytes" in reply["error"]
        taken = int(server.rest_address.rpartition(":")[2])
        with pytest.raises(ServingError, match=f"Port {taken} of"):
            EmbeddedServer({"small": small_model_base}, grpc_port=0, rest_port=taken).start()
    with pytest.raises(ServingError, match="0 to 65535"):
        EmbeddedServer({"small": small_model_base}, rest_port=70000)
