"""The service of merged requests without a network: what it holds, hands out and says when things go wrong."""

import asyncio
import concurrent.futures
import contextlib
import threading

import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from tfmeta.serving import tensor_codec
from tfmeta.serving.merged_prediction_service import MergedPredictionService
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.server_metrics import ServerMetrics


class Servable:
    """Merges what it is told to, and answers twice the input when `go` is set."""

    name, version = "m", 7

    def __init__(self, *, merges=True, output=lambda value: {"y": 2 * value}):
        self._merges, self._output = merges, output
        self.go, self.ran, self.threads = threading.Event(), 0, set()
        self._signature = meta_graph_pb2.SignatureDef()
        for side, name in ((self._signature.inputs, "x"), (self._signature.outputs, "y")):
            side[name].dtype, side[name].name = 1, name

    def signature(self, name):
        return self._signature

    def run(self, name, inputs, wanted, *, deadline=None):
        assert self.go.wait(20)
        self.ran += 1
        self.threads.add(threading.current_thread().name)
        return self._output(inputs["x"])

    def submit(self, name, inputs, *, deadline, done):
        if not self._merges:
            return False

        def work():
            try:
                results, error = self.run(name, inputs, ()), None
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


class Aborted(Exception):
    pass


class Context:
    def time_remaining(self):
        return None

    async def abort(self, code, details):
        raise Aborted(code.name, details)


def ask(servable, *, metrics=None, during=None):
    """Asks once and returns the reply, or what the call was ended with, and the manager."""
    manager = Manager(servable)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    tensor_codec.encode(np.array([1.5], np.float32), request.inputs["x"])

    async def run():
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
            service = MergedPredictionService(manager, loop=asyncio.get_running_loop(), pool=pool, metrics=metrics)
            call = asyncio.ensure_future(service.Predict(request, Context()))
            await asyncio.sleep(0.05)
            assert manager.held == 1
            if during:
                during(call)
                await asyncio.sleep(0)
            servable.go.set()
            return (await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 20))[0]

    return asyncio.run(run()), manager


@pytest.mark.parametrize(("merges", "thread"), [(True, "batch"), (False, "pool_0")])
def test_a_request_is_answered_by_its_batch_or_alone(merges, thread):
    servable, metrics = Servable(merges=merges), ServerMetrics()
    reply, manager = ask(servable, metrics=metrics)
    assert reply.outputs["y"].float_val == [3.0] and reply.model_spec.version.value == 7
    assert servable.threads == {thread} and manager.held == 0
    assert b'code="OK"' in metrics.page()


@pytest.mark.parametrize("merges", [True, False])
def test_a_refusal_and_a_reply_that_cannot_be_written_end_the_call(merges):
    def refuse(value):
        raise RequestError("RESOURCE_EXHAUSTED", "full")

    for output, expected in ((refuse, ("RESOURCE_EXHAUSTED", "full")),
                             (lambda value: {"y": np.array([object()])}, ("INTERNAL", None))):
        error, manager = ask(Servable(merges=merges, output=output))
        assert isinstance(error, Aborted) and error.args[0] == expected[0] and manager.held == 0
        assert expected[1] in (None, error.args[1])


def test_a_caller_that_goes_leaves_the_version_held_until_its_batch_has_run():
    servable, metrics = Servable(), ServerMetrics()
    error, manager = ask(servable, metrics=metrics, during=lambda call: call.cancel())
    assert isinstance(error, asyncio.CancelledError)
    for thread in threading.enumerate():
        if thread.name == "batch":
            thread.join(20)
    assert servable.ran == 1 and manager.held == 0
    assert b'code="CANCELLED"' in metrics.page()
