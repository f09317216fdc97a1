"""Arbitrary requests over gRPC and REST, with request batching on: no crash, hang, internal error or leak."""

import gc
import http.client
import json
import threading

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfmeta.serving import tensor_codec, wire
from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.server import EmbeddedServer

FAST, SLOW = 260, 10_500
# What a client can bring about; everything else is the server's own failure.
CODES = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
UNREADABLE = "Exception deserializing request!"
GOOD = {"support_item_id": np.array([["1", "2"]]), "support_label": np.array([[4, 2]], np.float32),
        "support_length": np.array([2], np.int32), "query_item_id": np.array([["3", "x"]])}
NAMES = [*GOOD, "x", "", "\x00", "é" * 40]
SIGNATURES = ["adapt_and_score", "score", "serving_default", "", "__saved_model_init_op", "zz", "\u2028" * 900]


@pytest.fixture(scope="module")
def server(small_model_base):
    batching = BatchingParameters(max_batch_size=4, num_batch_threads=2, batch_timeout_micros=500,
                                  allowed_batch_sizes=(1, 2, 4), pad_variable_length_inputs=True)
    with EmbeddedServer({"small": small_model_base}, grpc_port=0, rest_port=0, batching=batching,
                        max_message_bytes=1 << 20) as running:
        yield running


class Neighbour:
    """A well-behaved client beside the fuzzer: each of its answers has to be right, whoever it is merged with."""

    def __init__(self, address):
        self._request = request_of(GOOD, "adapt_and_score").SerializeToString()
        self._channel = grpc.insecure_channel(address)
        self._call = self._channel.unary_unary(wire.PREDICT_METHOD,
                                               response_deserializer=wire.PredictResponse.FromString)
        self._stop, self.answers, self.failure = threading.Event(), 0, None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self._stop.is_set():
                self.ask()
                self._stop.wait(0.01)
        except BaseException as error:
            self.failure = error

    def ask(self):
        reply = self._call(self._request, timeout=30)
        scores = tensor_codec.decode(reply.outputs["scores"])
        np.testing.assert_array_equal(scores[:, :2], [[106, 102]])
        self.answers += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._channel.close()
        assert self.failure is None and self.answers


def request_of(inputs, signature):
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "small", signature
    for name, value in inputs.items():
        tensor_codec.encode(value, request.inputs[name])
    return request


SIZES = st.sampled_from([-1, 0, 1, 1, 2, 2, 3, 7, 2**31, 2**62])
FIELDS = st.sampled_from([
    ("float_val", st.floats(width=32)), ("double_val", st.floats()), ("int_val", st.integers(-2**31, 2**31 - 1)),
    ("int64_val", st.integers(-2**63, 2**63 - 1)), ("string_val", st.binary(max_size=6)), ("bool_val", st.booleans()),
    ("half_val", st.integers(0, 2**31 - 1)), ("uint32_val", st.integers(0, 2**32 - 1)),
    ("uint64_val", st.integers(0, 2**64 - 1))])


@st.composite
def tensors(draw):
    proto = wire.TensorProto(dtype=draw(st.sampled_from([0, 1, 1, 2, 3, 3, 7, 7, 7, 9, 10, 14, 19, 22, 99, -5])))
    for size in draw(st.lists(SIZES, max_size=3)):
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.integers(0, 9)) == 0
    field, values = draw(FIELDS)
    getattr(proto, field).extend(draw(st.lists(values, max_size=4)))
    if draw(st.booleans()):
        proto.tensor_content = draw(st.binary(max_size=16))
    return proto


@st.composite
def grpc_requests(draw):
    """A good request with some of its parts replaced, as bytes."""
    request = request_of(GOOD, draw(st.sampled_from(SIGNATURES[:1] * 4 + SIGNATURES)))
    for change in draw(st.lists(st.sampled_from(["tensor", "tensor", "remove", "add", "model", "filter", "version",
                                                 "label", "rows", "cut"]), max_size=3)):
        if change in ("tensor", "add"):
            name = draw(st.sampled_from(NAMES[:4] if change == "tensor" else NAMES))
            request.inputs[name].CopyFrom(draw(tensors()))
        elif change == "remove":
            request.inputs.pop(draw(st.sampled_from(NAMES[:4])), None)
        elif change == "model":
            request.model_spec.name = draw(st.sampled_from(["small", "", "nope", "a" * 5000]))
        elif change == "filter":
            request.output_filter.extend(draw(st.lists(st.sampled_from(["scores", "status", "xx", ""]), max_size=3)))
        elif change == "version":
            request.model_spec.version.value = draw(st.sampled_from([3, 1, 0, -1, 2**63 - 1]))
        elif change == "label":
            request.model_spec.version_label = draw(st.text(max_size=5))
        elif change == "rows":
            rows = draw(st.integers(1, 6))
            request = request_of({k: np.repeat(v, rows, axis=0) for k, v in GOOD.items()}, "adapt_and_score")
        else:
            data = request.SerializeToString()
            return data[:draw(st.integers(0, len(data)))] + draw(st.binary(max_size=8))
    return request.SerializeToString()


def fuzz_grpc(server, count):
    # One process for all cases: what they leave behind would add up.
    ran = 0
    with Neighbour(server.grpc_address) as neighbour, grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary(wire.PREDICT_METHOD)

        @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(grpc_requests())
        def one(data):
            nonlocal ran
            ran += 1
            try:
                wire.PredictResponse.FromString(call(data, timeout=30))
            except grpc.RpcError as error:
                name, details = error.code().name, error.details()
                assert name in CODES or (name, details) == ("INTERNAL", UNREADABLE), (name, details)
                assert details

        one()
        neighbour.ask()
    assert ran >= count


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
                      | st.just({"b64": "AAA="}) | st.sampled_from([2**31, 1e39, 2**64, 1.5, "\ud800"]),
                      lambda inner: (st.lists(inner, max_size=3)
                                     | st.dictionaries(st.sampled_from([*NAMES[:5], "b64"]), inner, max_size=3)),
                      max_leaves=8)
PATHS = st.sampled_from(["/v1/models/small:predict"] * 8 + [
    "/v1/models/small/versions/3:predict", "/v1/models/small/versions/99999999999999999999:predict",
    "/v1/models/small/labels/x:predict", "/v1/models/small:regress", "/v1/models/:predict", "/v1/models/small",
    "/v1/models/small/metadata", "/", "/healthz", "/monitoring/prometheus/metrics", "/v1/models/%00:predict",
    "/openapi.json?a=b", "http://else/v1/models/small", "/v1/models/small/versions/" + "9" * 5000 + ":predict"])


@st.composite
def rest_requests(draw):
    """(method, path, body): a good body with one of its parts replaced, or anything."""
    method = draw(st.sampled_from(["POST"] * 8 + ["GET", "PUT", "HEAD", "BREW"]))
    inputs = {name: value.tolist() for name, value in GOOD.items()}
    for name in draw(st.lists(st.sampled_from(NAMES[:5]), max_size=2)):
        inputs[name] = draw(VALUES)
    rows = [{k: v[0] if isinstance(v, list) and v else v for k, v in inputs.items()}] * draw(st.integers(1, 6))
    body = draw(st.sampled_from([{"inputs": inputs}] * 2 + [{"instances": rows}] * 2 + [{}, {
        "inputs": inputs, "instances": rows}]))
    body = {"signature_name": draw(st.sampled_from(["adapt_and_score"] * 6 + SIGNATURES[1:])), **body}
    kind = draw(st.integers(0, 9))
    if kind == 0:
        body = draw(VALUES)
    data = json.dumps(body).encode()
    if kind == 1:
        data = draw(st.binary(max_size=40))
    elif kind == 2:
        data = data[:draw(st.integers(0, len(data)))]
    return method, draw(PATHS), data


def fuzz_rest(server, count):
    connection, ran = http.client.HTTPConnection(server.rest_address, timeout=30), 0

    @settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(rest_requests())
    def one(request):
        nonlocal ran
        ran += 1
        method, path, body = request
        connection.request(method, path, body=body)
        reply = connection.getresponse()
        content = reply.read()
        # 405 is the page's answer, the rest are TensorFlow Serving's.
        allowed = (200, 400, 404, 405) if path == "/" else (200, 400, 404)
        assert reply.status in allowed, (path, reply.status, content)
        if method == "HEAD":
            assert content == b""
        elif reply.status != 200:
            assert set(json.loads(content)) == {"error"}

    with Neighbour(server.grpc_address) as neighbour:
        one()
        neighbour.ask()
    connection.close()
    assert ran >= count


def resident_kib() -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


@pytest.mark.parametrize("fuzz", [fuzz_grpc, fuzz_rest])
def test_no_request_makes_the_server_fail(server, fuzz):
    fuzz(server, FAST)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fuzz", [fuzz_grpc, fuzz_rest])
def test_no_request_of_many_makes_the_server_fail_or_grow(server, fuzz):
    fuzz(server, FAST)
    gc.collect()
    threads, memory = threading.active_count(), resident_kib()
    fuzz(server, SLOW)
    gc.collect()
    assert threading.active_count() <= threads + 2
    # The fuzzer's own records are in it.
    assert resident_kib() - memory < 200 << 10
