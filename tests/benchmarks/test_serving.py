"""The benchmark of serving, apart from its processes."""

import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest

from benchmarks import serving, serving_requests, serving_worker
from benchmarks.http_connection import HttpConnection
from tfmeta.serving import json_tensor, tensor_codec, wire
from tfmeta.serving.batching.batching_parameters import BatchingParameters


def test_rows_are_medians_of_values_and_of_ratios():
    def block(p50, rate):
        return {"p50_ms": p50, "p99_ms": 9.0, "per_s": rate, "cpu_ms": 1.0}

    pairs = [(block(2.0, 10.0), block(1.0, 20.0)), (block(9.0, 30.0), block(3.0, 30.0)),
             (block(4.0, 40.0), block(8.0, 50.0))]
    rows = {r["metric"]: r for r in serving.rows_of(pairs, system="embedded_grpc", setting={"concurrency": 1})}
    assert (rows["p50_ms"]["value"], rows["p50_ms"]["ratio_to_ours"]) == (4.0, 2.0)
    assert (rows["per_s"]["value"], rows["per_s"]["ratio_to_ours"]) == (30.0, 0.8)
    assert rows["p50_above_in_process_ms"]["value"] == 1.0
    many = serving.rows_of(pairs, system="embedded_grpc", setting={"concurrency": 8})
    assert {r["metric"] for r in many} == {"p50_ms", "p99_ms", "per_s", "cpu_ms"}


def test_every_combination_of_the_sweep_can_be_read():
    for size, timeout, threads in serving.SWEEP:
        read = BatchingParameters.parse(serving.parameters(size=size, timeout=timeout, threads=threads))
        assert (read.max_batch_size, read.batch_timeout_micros, read.num_batch_threads) == (size, timeout, threads)


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("states") / "states.npz")
    count = serving_requests.DISTINCT
    np.savez(path, user_state=np.arange(3 * count, dtype=np.float32).reshape(count, 3),
             state_model=np.array([b"ab"] * count))
    return path


@pytest.mark.parametrize(("reply", "message"), [
    (b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello", None),
    (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}", "429 Too Many"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "closed the connection")])
def test_the_client_reads_whole_replies_and_takes_no_failure_for_one(reply, message):
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = HttpConnection("{}:{}".format(*server.getsockname()), "/v1/models/m:predict")
        theirs, _ = server.accept()
    with contextlib.closing(connection), theirs:
        connection.send(b"[1]")
        assert theirs.recv(1 << 16).endswith(b"\r\nContent-Length: 3\r\n\r\n[1]")
        for byte in reply[:-3]:
            theirs.sendall(bytes([byte]))
            assert connection.receive() is None
        theirs.sendall(reply[-3:])
        theirs.shutdown(socket.SHUT_WR)
        if message is None:
            assert connection.receive() == b"hello"
        else:
            with pytest.raises(RuntimeError, match=message):
                assert connection.receive() is None
                connection.receive()


SIGNATURES = sorted({signature for _, signature in serving.WORKLOADS})


def test_every_signature_is_measured():
    from export.signatures import SIGNATURES as exported

    assert set(SIGNATURES) == set(exported) - {"metadata"}


@pytest.mark.parametrize("signature", SIGNATURES)
def test_requests_say_the_same_over_grpc_and_rest(signature, states):
    prepared = list(zip(serving_requests.grpc_bodies("m", signature, states),
                        serving_requests.rest_bodies("m", signature, states), strict=True))
    for body, text in prepared:
        request, columns = wire.PredictRequest.FromString(body), json.loads(text)["inputs"]
        assert set(request.inputs) == set(columns) and request.model_spec.signature_name == signature
        for name, values in columns.items():
            received = tensor_codec.decode(request.inputs[name])
            if received.dtype == object:
                read_back = json_tensor.read_tensor(values, tensor_codec.DT_STRING)
                assert received.tolist() == read_back.tolist()
            else:
                np.testing.assert_array_equal(received, values)
            assert len(received) == 1
    assert len({body for body, _ in prepared}) == serving_requests.DISTINCT


@pytest.mark.slow
def test_requests_fit_what_is_measured(tmp_path):
    """Every workload on its own export, in process: answered, without a complaint."""
    from tfmeta.serving.servable import Servable

    bases, states = serving.export_models(str(tmp_path), serving.STEPS), str(tmp_path / "states.npz")
    serving.write_states(bases["w1_5"], states)
    for model, signature in serving.WORKLOADS:
        servable = Servable(model, 1, f"{bases[model]}/1")
        for inputs in serving_requests.arrays(signature, states)[:2]:
            assert servable.run(signature, inputs)["status"].tolist() == [0], (model, signature)
        servable.close()


def test_measure_counts_calls_and_raises_what_fails():
    found = serving_worker.measure(lambda thread, number: time.sleep(0.002), concurrency=3, seconds=0.1)
    assert found["p50_ms"] >= 2 and found["requests"] >= 3
    with pytest.raises(ZeroDivisionError):
        serving_worker.measure(lambda thread, number: 1 / (number - 1), concurrency=2, seconds=0.1)


class _Slow:
    """A connection whose reply comes in two pieces from a thread of its own, a while after each request."""

    def __init__(self, seconds, fails=False):
        self._ours, self._theirs = socket.socketpair()
        self._seconds, self._fails, self.sent = seconds, fails, []

    def send(self, body):
        self.sent.append(body)
        threading.Timer(self._seconds, self._theirs.sendall, [b"ab"]).start()

    def receive(self):
        if self._fails and len(self.sent) == 2:
            raise RuntimeError("refused")
        return b"b" if self._ours.recv(1) == b"b" else None

    def fileno(self):
        return self._ours.fileno()

    def close(self):
        self._ours.close()
        self._theirs.close()


def test_connections_ask_again_as_soon_as_they_are_answered():
    quick, slow = connections = _Slow(0.01), _Slow(0.05)
    found = serving_worker.measure_connections(connections, [b"1", b"2", b"3"], seconds=0.5)
    assert [quick.sent[:2], slow.sent[0]] == [[b"1", b"1"], b"2"] and set(quick.sent) == {b"1", b"2", b"3"}
    assert 2 <= len(slow.sent) <= 11 and len(slow.sent) < len(quick.sent) <= 52
    assert found["requests"] == len(quick.sent) + len(slow.sent) - 1
    assert found["p50_ms"] >= 10 and found["p99_ms"] >= 50
    quick.close()
    slow.close()


def test_a_block_shorter_than_a_reply_takes_goes_on_until_one_counts():
    with contextlib.closing(_Slow(0.05)) as connection:
        found = serving_worker.measure_connections([connection], [b"1"], seconds=0.02)
    # The one before the block, one that began with it and the one that counts.
    assert len(connection.sent) == 3 and found["requests"] == 2
    assert found["p50_ms"] >= 50 and 0 < found["per_s"] <= 1 / 0.03


def test_a_connection_that_fails_ends_the_measurement():
    with (contextlib.closing(_Slow(0.001, fails=True)) as connection,
          pytest.raises(RuntimeError, match="refused")):
        serving_worker.measure_connections([connection], [b"1"], seconds=0.1)
