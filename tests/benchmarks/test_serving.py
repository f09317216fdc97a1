"""The benchmark of serving, apart from its processes."""

import json
import time

import numpy as np
import pytest

from benchmarks import serving, serving_requests, serving_worker
from tfmeta.serving import tensor_codec, wire
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


@pytest.mark.parametrize("signature", ["score", "adapt_and_score", "recommend"])
def test_requests_say_the_same_over_grpc_and_rest(signature):
    prepared = zip(serving_requests.grpc_bodies("m", signature), serving_requests.rest_bodies("m", signature),
                   strict=True)
    for body, text in prepared:
        request, columns = wire.PredictRequest.FromString(body), json.loads(text)["inputs"]
        assert set(request.inputs) == set(columns)
        for name, values in columns.items():
            np.testing.assert_array_equal(tensor_codec.decode(request.inputs[name]), values)


def test_measure_counts_calls_and_raises_what_fails():
    found = serving_worker.measure(lambda thread, number: time.sleep(0.002), concurrency=3, seconds=0.1)
    assert found["p50_ms"] >= 2 and found["requests"] >= 3
    with pytest.raises(ZeroDivisionError):
        serving_worker.measure(lambda thread, number: 1 / (number - 1), concurrency=2, seconds=0.1)
