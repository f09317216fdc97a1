import concurrent.futures
import contextlib
import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest

from tfmeta.errors import ServingError
from tfmeta.serving import Client, EmbeddedServer, RequestError
from tfmeta.serving.batching.batching_parameters import BatchingParameters


def small_request(batch=1):
    return {"support_item_id": np.array([["1", "2"]] * batch), "support_label": np.array([[4, 2]] * batch, np.float32),
            "support_length": np.full(batch, 2, np.int32), "query_item_id": np.array([["3", "7", "x"]] * batch)}


@pytest.fixture(scope="module")
def client(small_server):
    with Client(small_server.grpc_address) as client:
        yield client


@pytest.fixture(scope="module", params=["each request alone", "requests merged"])
def stubs(small_server, small_model_base, request):
    """Everything is answered the same way with and without request batching."""
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    with contextlib.ExitStack() as stack:
        server = small_server
        if request.param == "requests merged":
            batching = BatchingParameters(max_batch_size=8, pad_variable_length_inputs=True)
            server = stack.enter_context(EmbeddedServer({"small": small_model_base}, grpc_port=0, batching=batching))
        channel = stack.enter_context(grpc.insecure_channel(server.grpc_address))
        yield (prediction_service_pb2_grpc.PredictionServiceStub(channel),
               model_service_pb2_grpc.ModelServiceStub(channel))


def test_latest_version_answers(client, small_server):
    assert small_server.versions == {"small": 3}
    outputs = client.predict("small", {"query_item_id": [["3", "7", "x"]]})
    np.testing.assert_array_equal(outputs["scores"], [[103, 107, 99]])
    assert outputs["scores"].dtype == np.float32
    adapted = client.predict("small", small_request(2), signature="adapt_and_score", version=3)
    np.testing.assert_array_equal(adapted["scores"], [[106, 110, 102]] * 2)
    np.testing.assert_array_equal(client.predict("small", {"query_item_id": [["3"]]}, signature="")["scores"], [[103]])
    assert client.wait_until_available("small") == 3


def test_status_bits_become_an_error_that_names_the_row(client):
    request = small_request(3)
    request["support_label"][1, 0] = np.nan
    with pytest.raises(RequestError, match="row 1: a non-finite label was dropped") as caught:
        client.predict("small", request, signature="adapt_and_score")
    assert caught.value.code == "DATA_LOSS"
    outputs = client.predict("small", request, signature="adapt_and_score", accept_status=True)
    np.testing.assert_array_equal(outputs["status"], [0, 1, 0])


def _request(change):
    from tensorflow_serving.apis import predict_pb2

    from tfmeta.serving import tensor_codec

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "small"
    request.model_spec.signature_name = "adapt_and_score"
    for name, value in small_request().items():
        tensor_codec.encode(value, request.inputs[name])
    change(request)
    return request


def _set(name, value):
    from tfmeta.serving import tensor_codec

    def change(request):
        request.inputs[name].Clear()
        tensor_codec.encode(value, request.inputs[name])
    return change


def _rename(request):
    request.inputs["query"].CopyFrom(request.inputs["query_item_id"])
    del request.inputs["query_item_id"]


def _extra(request):
    request.inputs["other"].CopyFrom(request.inputs["query_item_id"])


def _mismatch(request):
    _set("support_label", np.zeros((3, 2), np.float32))(request)
    _set("support_length", np.array([2, 2], np.int32))(request)


@pytest.mark.parametrize(("change", "code", "message"), [
    (lambda r: r.ClearField("model_spec"), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (lambda r: r.model_spec.ClearField("name"), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (lambda r: setattr(r.model_spec, "name", "nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
    (lambda r: setattr(r.model_spec.version, "value", 7), "NOT_FOUND",
     "Servable not found for request: Specific(small, 7)"),
    (lambda r: setattr(r.model_spec.version, "value", 1), "NOT_FOUND",
     "Servable not found for request: Specific(small, 1)"),
    (lambda r: setattr(r.model_spec, "version_label", "canary"), "INVALID_ARGUMENT",
     "Unrecognized servable version label: canary"),
    (lambda r: setattr(r.model_spec, "signature_name", "zzz"), "FAILED_PRECONDITION",
     'Serving signature key "zzz" not found.'),
    (lambda r: r.inputs.pop("support_label"), "INVALID_ARGUMENT",
     "input size does not match signature: 3!=4 len({query_item_id,support_item_id,support_length}) != "
     "len({query_item_id,support_item_id,support_label,support_length}). Sent extra: {}. "
     "Missing but required: {support_label}."),
    (_extra, "INVALID_ARGUMENT",
     "input size does not match signature: 5!=4 len({other,query_item_id,support_item_id,support_label,"
     "support_length}) != len({query_item_id,support_item_id,support_label,support_length}). Sent extra: {other}. "
     "Missing but required: {}."),
    (_rename, "INVALID_ARGUMENT",
     "Signature input alias: query_item_id(feed name: adapt_and_score_query_item_id:0) not found in request and no "
     "default value provided."),
    (lambda r: setattr(r.inputs["support_label"], "tensor_content", b"123"), "INVALID_ARGUMENT",
     "tensor parsing error: support_label"),
    (_set("support_length", np.array([2], np.int64)), "INVALID_ARGUMENT",
     "Expects arg[3] to be int32 but int64 is provided"),
    (lambda r: r.output_filter.append("xx"), "INVALID_ARGUMENT",
     "output tensor alias not found in signature: xx Outputs expected to be in the set {base_scores,scores,status}."),
    (lambda r: r.output_filter.extend(["scores", "scores"]), "INVALID_ARGUMENT",
     "duplicate output tensor alias: scores"),
    (_set("support_label", np.zeros((1, 0), np.float32)), "INVALID_ARGUMENT", "Input support_label has no elements"),
    # The graph's own errors: labels of rank 3, labels of three users with lengths of two.
    (_set("support_label", np.zeros((1, 2, 2), np.float32)), "INVALID_ARGUMENT", ""),
    (_mismatch, "INVALID_ARGUMENT", ""),
])
def test_predict_errors(stubs, change, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].Predict(_request(change), timeout=10)
    assert caught.value.code().name == code
    assert caught.value.details().startswith(message) and caught.value.details()


def test_predict_reply(stubs):
    from tensorflow_serving.apis import predict_pb2

    reply = stubs[0].Predict(_request(lambda r: r.output_filter.append("scores")), timeout=10)
    assert list(reply.outputs) == ["scores"]
    assert (reply.model_spec.name, reply.model_spec.version.value, reply.model_spec.signature_name) == (
        "small", 3, "adapt_and_score")
    assert list(reply.outputs["scores"].float_val) == [106, 110, 102]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "small"
    request.inputs["query_item_id"].CopyFrom(_request(lambda r: None).inputs["query_item_id"])
    assert stubs[0].Predict(request, timeout=10).model_spec.signature_name == "serving_default"


def test_tensor_content_where_the_server_is_told_so(small_model_base):
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    with EmbeddedServer({"small": small_model_base}, grpc_port=0, tensor_content=True) as server, \
            grpc.insecure_channel(server.grpc_address) as channel:
        reply = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(_request(lambda r: None), timeout=10)
    scores = reply.outputs["scores"]
    assert list(scores.float_val) == [] and np.frombuffer(scores.tensor_content, "<f4").tolist() == [106, 110, 102]


def test_metadata(stubs):
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest()
    for mutate, message in [
            (lambda: None, "Missing ModelSpec"),
            (lambda: setattr(request.model_spec, "name", "small"),
             "GetModelMetadataRequest must specify at least one metadata_field"),
            (lambda: request.metadata_field.append("foo"), "Metadata field foo is not supported")]:
        mutate()
        with pytest.raises(grpc.RpcError) as caught:
            stubs[0].GetModelMetadata(request, timeout=10)
        assert (caught.value.code().name, caught.value.details()) == ("INVALID_ARGUMENT", message)
    request.metadata_field[:] = ["signature_def"]
    for change, code, message in [
            (lambda spec: setattr(spec, "name", "nope"), "NOT_FOUND", "Servable not found for request: Latest(nope)"),
            (lambda spec: setattr(spec.version, "value", 7), "NOT_FOUND",
             "Servable not found for request: Specific(small, 7)"),
            (lambda spec: setattr(spec, "version_label", "canary"), "INVALID_ARGUMENT",
             "Unrecognized servable version label: canary")]:
        wrong = get_model_metadata_pb2.GetModelMetadataRequest()
        wrong.CopyFrom(request)
        change(wrong.model_spec)
        with pytest.raises(grpc.RpcError) as caught:
            stubs[0].GetModelMetadata(wrong, timeout=10)
        assert (caught.value.code().name, caught.value.details()) == (code, message)
    reply = stubs[0].GetModelMetadata(request, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert reply.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "score", "adapt_and_score", "__saved_model_init_op"}
    assert reply.model_spec.version.value == 3


def test_status(stubs):
    from tensorflow_serving.apis import get_model_status_pb2

    request = get_model_status_pb2.GetModelStatusRequest()
    with pytest.raises(grpc.RpcError) as caught:
        stubs[1].GetModelStatus(request, timeout=10)
    assert (caught.value.code().name, caught.value.details()) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "small"
    reply = stubs[1].GetModelStatus(request, timeout=10)
    assert [(s.version, s.State.Name(s.state), s.status.error_code) for s in reply.model_version_status] == [
        (3, "AVAILABLE", 0)]
    request.model_spec.version.value = 9
    for name, message in (("small", "Could not find version 9 of model small"),
                          ("nope", "Could not find any versions of model nope")):
        request.model_spec.name = name
        with pytest.raises(grpc.RpcError) as caught:
            stubs[1].GetModelStatus(request, timeout=10)
        assert (caught.value.code().name, caught.value.details()) == ("NOT_FOUND", message)


def test_eight_clients_at_once(small_server):
    def call(i):
        with Client(small_server.grpc_address) as client:
            for j in range(20):
                item = (i * 20 + j) % 10
                request = small_request()
                request["query_item_id"] = np.array([[str(item)]])
                request["support_label"][:] = i
                outputs = client.predict("small", request, signature="adapt_and_score")
                assert outputs["scores"][0, 0] == 100 + item + i
        return True

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(8)))


def test_start_errors(tmp_path, small_model_base, small_server):
    with pytest.raises(ServingError, match="numeric version directories"):
        EmbeddedServer({"m": str(tmp_path)}, grpc_port=0).start()
    (tmp_path / "1").mkdir()
    with pytest.raises(ServingError, match="requires a SavedModel with tag 'serve'"):
        EmbeddedServer({"m": str(tmp_path)}, grpc_port=0).start()
    with pytest.raises(ServingError, match="0 to 65535"):
        EmbeddedServer({"m": small_model_base}, grpc_port=70000)


@pytest.mark.parametrize("first", [None, BatchingParameters()])
@pytest.mark.parametrize("second", [None, BatchingParameters()])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_two_servers_share_a_port(small_model_base, host, first, second):
    with EmbeddedServer({"m": small_model_base}, grpc_port=0, host=host, batching=first, warm_up=False) as running:
        port = int(running.grpc_address.rsplit(":", 1)[1])
        with pytest.raises(ServingError, match=f"Port {port} of {host} cannot be opened; another process may hold"):
            EmbeddedServer({"m": small_model_base}, grpc_port=port, host=host, batching=second, warm_up=False).start()
    # And it is free again.
    with (EmbeddedServer({"m": small_model_base}, grpc_port=port, host=host, batching=second, warm_up=False) as again,
          Client(again.grpc_address) as client):
        assert client.predict("m", {"query_item_id": [["4"]]})["scores"][0, 0] == 104


def test_no_server_is_an_error_with_a_code():
    with Client("127.0.0.1:1") as client, pytest.raises(RequestError) as caught:
        client.predict("small", {"query_item_id": [["1"]]}, timeout=2)
    assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def to_the_process(pid):
    os.kill(pid, signal.SIGTERM)


def to_another_thread(pid):
    """The kernel may choose any thread for a process's signal."""
    threads = [int(t) for t in os.listdir(f"/proc/{pid}/task") if int(t) != pid
               and "SigBlk:\t0000000000000000" in pathlib.Path(f"/proc/{pid}/task/{t}/status").read_text("utf-8")]
    assert ctypes.CDLL(None).tgkill(pid, max(threads), signal.SIGTERM) == 0


@pytest.mark.parametrize("send", [to_the_process] + [to_another_thread] * sys.platform.startswith("linux"))
def test_command_serves_and_stops_on_sigterm(small_model_base, send):
    code = ("import argparse, sys; from tfmeta.serving import command; p = argparse.ArgumentParser(); "
            "command.add_arguments(p); a = p.parse_args(); a.json = True; sys.exit(command.run(a))")
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--model-base", f"small={small_model_base}", "--grpc-port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        started = json.loads(process.stdout.readline())
        assert started["models"] == {"small": 3}
        if hasattr(os, "SCHED_BATCH"):
            assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
        with Client(started["grpc_address"]) as client:
            assert client.predict("small", {"query_item_id": [["4"]]})["scores"][0, 0] == 104
        send(process.pid)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Stopping" in stderr
    finally:
        process.kill()


def test_a_grpc_library_without_what_the_port_needs_is_named(small_model_base, monkeypatch):
    monkeypatch.setitem(sys.modules, "tfmeta.serving.grpc_port", None)
    with pytest.raises(ServingError, match=r"requires a grpcio that is built like 1\.80 to 1\.85, received 1\."):
        EmbeddedServer({"small": small_model_base}, grpc_port=0).start()


def test_model_base_arguments():
    from tfmeta.serving.command import parse_model_bases

    assert parse_model_bases(["a=/x=y", "b=z"]) == {"a": "/x=y", "b": "z"}
    for bad in (["a"], ["=x"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(ServingError, match="--model-base requires"):
            parse_model_bases(bad)
