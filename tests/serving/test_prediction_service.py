"""PredictionService without a network: what it counts, hands on and says."""

import time

import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from tfmeta.serving import tensor_codec
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.prediction_service import PredictionService
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.server_metrics import ServerMetrics


class Aborted(Exception):
    pass


class Context:
    def __init__(self, remaining=None):
        self.remaining = remaining

    def time_remaining(self):
        return self.remaining

    def abort(self, code, details):
        raise Aborted(code.name, details)


@pytest.fixture(scope="module")
def manager(small_model_base):
    made = ModelManager({"small": small_model_base})
    made.load()
    yield made
    made.close()


def request(signature="score", model="small"):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = model, signature
    tensor_codec.encode(np.array([["1"]]), made.inputs["query_item_id"])
    return made


def test_requests_are_counted_by_code_and_strangers_as_unknown(manager):
    metrics = ServerMetrics()
    service = PredictionService(manager, metrics=metrics)
    assert service.Predict(request(), Context()).outputs["scores"].float_val == [101.0]
    service.Predict(request(""), Context())
    for bad in (request("zz"), request(model="nope"), request("adapt_and_score")):
        with pytest.raises(Aborted):
            service.Predict(bad, Context())
    counted = {tuple(sample.labels[k] for k in ("model", "version", "signature", "code")): sample.value
               for family in metrics.registry.collect() for sample in family.samples
               if sample.name == "tfmeta_serving_requests_total"}
    assert counted == {("small", "3", "score", "OK"): 1, ("small", "3", "serving_default", "OK"): 1,
                       ("small", "3", "unknown", "FAILED_PRECONDITION"): 1,
                       ("unknown", "unknown", "unknown", "NOT_FOUND"): 1,
                       ("small", "3", "adapt_and_score", "INVALID_ARGUMENT"): 1}


def test_what_is_late_is_not_run(manager):
    service = PredictionService(manager)
    assert service.Predict(request(), Context(remaining=60.0)).outputs
    begun = time.monotonic()
    with pytest.raises(Aborted, match="DEADLINE_EXCEEDED"):
        service.Predict(request(), Context(remaining=0.0))
    assert time.monotonic() - begun < 5


def test_a_failure_of_the_server_itself_is_internal(manager):
    class Broken:
        def lease(self, *_, **__):
            raise ZeroDivisionError("oh")

    with pytest.raises(Aborted, match="ZeroDivisionError: oh") as caught:
        PredictionService(Broken()).Predict(request(), Context())
    assert caught.value.args[0] == "INTERNAL"


def test_requests_beyond_what_may_be_filled_are_refused(manager):
    service = PredictionService(manager)
    bad = request()
    bad.inputs["query_item_id"].tensor_shape.dim[1].size = 1 << 40
    with pytest.raises(Aborted, match="tensor parsing error: query_item_id"):
        service.Predict(bad, Context())
    with pytest.raises(RequestError):
        manager.lease("nope")
