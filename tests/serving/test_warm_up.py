"""Recorded requests, replayed before a version serves."""

import shutil

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfmeta.serving import tensor_codec, warm_up
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.servable import Servable


@pytest.fixture(scope="module")
def servable(write_version, tmp_path_factory):
    servable = Servable("m", 1, str(write_version(tmp_path_factory.mktemp("warm"), 1)))
    yield servable
    servable.close()


def record(signature="score", *, item=((1, 2),), alias="item", wanted=()):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = "another", signature
    tensor_codec.encode(item, request.inputs[alias])
    request.output_filter.extend(wanted)
    return log.SerializeToString()


def write(directory, records):
    folder = directory / "assets.extra"
    folder.mkdir()
    path = folder / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for item in records:
            writer.write(item)
    return path


def test_every_record_runs(servable, tmp_path):
    assert warm_up.replay(servable, str(tmp_path)) == 0
    write(tmp_path, [record(), record(""), record(wanted=["scores"])])
    ran = []
    original = servable.run
    servable.run = lambda name, inputs, outputs=(): ran.append((name, outputs)) or original(name, inputs, outputs)
    try:
        assert warm_up.replay(servable, str(tmp_path)) == 3
    finally:
        del servable.run
    assert ran == [("score", ()), ("", ()), ("score", ("scores",))]


@pytest.mark.parametrize(("bad", "code", "message"), [
    (record("zzz"), "FAILED_PRECONDITION", 'Serving signature key "zzz" not found.'),
    (record(alias="wrong"), "INVALID_ARGUMENT", "Signature input alias: item(feed name: score_item:0) not found"),
    (record(item=(("a",),)), "INVALID_ARGUMENT", "Expects arg[0] to be int64 but string is provided"),
    (record(wanted=["xx"]), "INVALID_ARGUMENT", "output tensor alias not found in signature: xx"),
    (b"\xff\xff", "INVALID_ARGUMENT", "Failed to parse warmup record from "),
    (prediction_log_pb2.PredictionLog(classify_log={}).SerializeToString(), "UNIMPLEMENTED",
     "Unsupported log_type for warmup: classify_log"),
    (b"", "UNIMPLEMENTED", "Unsupported log_type for warmup: none"),
])
def test_a_bad_record_fails(servable, tmp_path, bad, code, message):
    write(tmp_path, [record(), bad])
    with pytest.raises(RequestError) as caught:
        warm_up.replay(servable, str(tmp_path))
    assert caught.value.code == code and caught.value.message.startswith(message)


def test_at_most_a_thousand(servable, tmp_path, monkeypatch):
    assert warm_up.MAX_RECORDS == 1000
    monkeypatch.setattr(warm_up, "MAX_RECORDS", 3)
    path = write(tmp_path, [record()] * 3)
    assert warm_up.replay(servable, str(tmp_path)) == 3
    shutil.rmtree(path.parent)
    write(tmp_path, [record()] * 4)
    with pytest.raises(RequestError) as caught:
        warm_up.replay(servable, str(tmp_path))
    assert caught.value.message == f"Number of warmup records exceeds the maximum (3) at {path}"


def test_a_damaged_file(servable, tmp_path):
    path = write(tmp_path, [record(), record()])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RequestError, match="DATA_LOSS: Failed to read warmup records from "):
        warm_up.replay(servable, str(tmp_path))
