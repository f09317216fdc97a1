"""The service of merged requests without a network: what it holds, hands out and says when things go wrong."""

import concurrent.futures
import contextlib
import queue
import threading
import time

import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from tfmeta.serving import tensor_codec
from tfmeta.serving.grpc_call import LATER
from tfmeta.serving.merged_prediction_service import MergedPredictionService
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.server_metrics import ServerMetrics


class Servable:
    """Merges what it is told to, and answers twice the input when `go` is set."""

    name, version = "m", 7

    def __init__(self, *, merges=True, output=lambda value: {"y": 2 * value}):
        self._merges, self._output = merges, output
        self.go, self.deadline, self.threads = threading.Event(), None, set()
        self._signature = meta_graph_pb2.SignatureDef()
        for side, name in ((self._signature.inputs, "x"), (self._signature.outputs, "y")):
            side[name].dtype, side[name].name = 1, name

    def signature(self, name):
        return self._signature

    def run(self, name, inputs, wanted, *, deadline=None):
        assert self.go.wait(20)
        self.deadline = deadline
        self.threads.add(threading.current_thread().name)
        return self._output(inputs["x"])

    def submit(self, name, inputs, *, deadline, done):
        if not self._merges:
            return False

        def work():
            try:
                results, error = self.run(name, inputs, (), deadline=deadline), None
            except RequestError as failed:
                results, error = None, failed
            done(results, error)

        threading.Thread(target=work, name="batch").start()
        return True


class Manager:
    """Counts the leases that are held."""

    def __init__(self, servable):
        self._servable, self.held = servable, 0

    @contextlib.contextmanager
    def lease(self, *_, **__):
        self.held += 1
        try:
            yield self._servable
        finally:
            self.held -= 1


class Context:
    """Keeps what the call was ended with."""

    def __init__(self, deadline=None, gone=False):
        self._deadline, self.ended = deadline, queue.Queue()
        self.gone, self.watched = gone, False

    def time_remaining(self):
        return self._deadline

    def watch(self):
        self.watched = True

    def answer(self, response):
        self.ended.put(response)

    def refuse(self, code, details):
        self.ended.put((code.name, details))


def ask(servable, *, metrics=None, **context):
    """Asks once; returns what the call was ended with, and the manager."""
    manager, call = Manager(servable), Context(**context)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    tensor_codec.encode(np.array([1.5], np.float32), request.inputs["x"])
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        service = MergedPredictionService(manager, pool=pool, metrics=metrics)
        held = []
        threading.Timer(0.05, lambda: (held.append(manager.held), servable.go.set())).start()
        assert service.Predict(request, call) is LATER
        ended = call.ended.get(timeout=20)
    assert held == [1] and manager.held == 0 and call.ended.empty()
    return ended


@pytest.mark.parametrize("merges", [True, False])
def test_a_request_is_answered_by_its_batch_or_alone(merges):
    servable, metrics = Servable(merges=merges), ServerMetrics()
    reply = ask(servable, metrics=metrics)
    assert reply.outputs["y"].float_val == [3.0] and reply.model_spec.version.value == 7
    assert servable.threads == {"batch" if merges else "pool_0"}
    assert b'code="OK"' in metrics.page()


@pytest.mark.parametrize("merges", [True, False])
def test_a_refusal_and_a_reply_that_cannot_be_written_end_the_call(merges):
    def refuse(value):
        raise RequestError("RESOURCE_EXHAUSTED", "full")

    metrics = ServerMetrics()
    assert ask(Servable(merges=merges, output=refuse), metrics=metrics) == ("RESOURCE_EXHAUSTED", "full")
    code, _ = ask(Servable(merges=merges, output=lambda value: {"y": np.array([object()])}), metrics=metrics)
    assert code == "INTERNAL"
    assert b'code="RESOURCE_EXHAUSTED"' in metrics.page() and b'code="INTERNAL"' in metrics.page()


@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize("remaining", [None, 5.0])
def test_the_deadline_of_a_client_goes_with_its_request(merges, remaining):
    servable = Servable(merges=merges)
    ask(servable, deadline=remaining)
    assert servable.deadline is None if remaining is None else 0 < servable.deadline - time.monotonic() <= 5.0


def test_a_request_that_runs_alone_does_not_run_for_a_client_that_has_gone():
    metrics = ServerMetrics()
    assert ask(Servable(), gone=True).outputs["y"].float_val == [3.0]  # Its batch runs anyway.
    manager, call = Manager(Servable(merges=False)), Context(gone=True)
    request = predict_pb2.PredictRequest()
    tensor_codec.encode(np.array([1.5], np.float32), request.inputs["x"])
    request.model_spec.name = "m"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert MergedPredictionService(manager, pool=pool, metrics=metrics).Predict(request, call) is LATER
    assert call.watched and call.ended.get(timeout=20)[0] == "CANCELLED" and manager.held == 0
    assert b'code="CANCELLED"' in metrics.page()


def test_a_queue_that_refuses_at_once_lets_go_of_the_version():
    servable = Servable()

    def full(*_, **__):
        assert servable.go.wait(20)
        raise RequestError("RESOURCE_EXHAUSTED", "no room")

    servable.submit = full
    assert ask(servable) == ("RESOURCE_EXHAUSTED", "no room")
