"""Warm-up records: every signature x batch size x support width, answered, and in a small file."""

import os

import numpy as np
import pytest
from export_cases import BOUND, COMBINATIONS, make_items, make_spec

from export import warmup
from tfmeta.data.raw_columns import raw_columns
from tfmeta.errors import ExportError
from tfmeta.serving import tensor_codec

CATALOGUE, REQUEST = COMBINATIONS[0], COMBINATIONS[1]
WIDE = ("adapt", "adapt_and_score", "adapt_and_score_examples", "explain", "recommend", "adapt_and_recommend")


def read(path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    return [prediction_log_pb2.PredictionLog.FromString(r.numpy()).predict_log.request
            for r in tf.data.TFRecordDataset(str(path))]


def decode(request):
    return {name: tensor_codec.decode(proto) for name, proto in request.inputs.items()}


@pytest.fixture(scope="module")
def requests(exports):
    return {key: read(os.path.join(exports[key].path, "assets.extra", warmup.FILE)) for key in (CATALOGUE, REQUEST)}


@pytest.mark.parametrize("key", [CATALOGUE, REQUEST], ids=["catalogue", "request"])
def test_every_signature_batch_size_and_width_occurs_once(exports, requests, servables, key):
    kinds = []
    for request in requests[key]:
        inputs = decode(request)
        batch = len(next(iter(inputs.values())))
        widths = [v.shape[1] for n, v in inputs.items() if n in ("support_label", "exclude_item")]
        kinds.append((request.model_spec.signature_name, batch, *dict.fromkeys(widths)))
    examples = [k for k in kinds if k[0] == "adapt_and_score_examples"]
    rest = [k for k in kinds if k[0] != "adapt_and_score_examples"]
    assert len(set(rest)) == len(rest)
    served = {name for name, s in servables[key].signature_defs.items() if s.inputs}
    assert {k[0] for k in kinds} == served
    for name in served:
        wide = name in WIDE or (name == "serving_default" and key[1] == "all")
        assert len([k for k in kinds if k[0] == name]) == len(warmup.BATCH_SIZES) * (2 if wide else 1), name
    assert {k for k in rest if k[0] == "adapt_and_score"} == {
        ("adapt_and_score", b, w) for b in warmup.BATCH_SIZES for w in (1, BOUND)}
    assert sorted(k[1] for k in examples) == sorted([*warmup.BATCH_SIZES] * 2)
    assert len(kinds) < 200


@pytest.mark.parametrize("key", [CATALOGUE, REQUEST], ids=["catalogue", "request"])
def test_every_record_is_answered_without_a_complaint(requests, servables, key):
    """Each takes the path that traffic takes: nothing dropped, replaced, rejected or clamped."""
    for request in requests[key]:
        inputs = decode(request)
        outputs = servables[key].run(request.model_spec.signature_name, inputs)
        batch = len(next(iter(inputs.values())))
        assert not outputs["status"].any(), request.model_spec.signature_name
        assert all(len(v) == batch for v in outputs.values())


def test_the_file_is_small(exports, requests):
    for key in (CATALOGUE, REQUEST):
        size = os.path.getsize(os.path.join(exports[key].path, "assets.extra", warmup.FILE))
        assert size < 256 << 10, size


def test_large_batches_have_one_value_throughout(requests):
    """Written once, whatever the shape."""
    for request in requests[REQUEST]:
        inputs = decode(request)
        if len(next(iter(inputs.values()))) == 32 and "examples" not in inputs:
            assert request.ByteSize() < 4096
            for value in inputs.values():
                assert len(set(value.ravel().tolist())) == 1


def test_one_record_a_signature_has_values_of_its_own(requests):
    varied = [r for r in requests[CATALOGUE] if r.model_spec.signature_name == "adapt_and_score"
              and len(set(decode(r)["query_movie_id"].ravel().tolist())) > 1]
    assert len(varied) == 1 and decode(varied[0])["support_label"].shape == (1, BOUND)


def describe(**shapes):
    kinds = {"support_length": "int32", "support_label": "float32"}
    return {"inputs": {n: {"dtype": kinds.get(n, "string"), "shape": s} for n, s in shapes.items()}, "outputs": {}}


def write(path, signatures, **options):
    spec = make_spec(options.pop("unit", "rating"), plain=options.pop("plain", False))
    features = (spec.item_id,)
    catalogue = raw_columns(make_items(plain=spec.item_id.dtype == "int64"), features,
                            rename={spec.item_id.name: "item_id"})
    return warmup.write_warmup(str(path), model_name="m", signatures=signatures, feature_spec=spec,
                               item_features=features, catalogue=catalogue, support_width=BOUND, state_model="f",
                               **options)


ADAPT = describe(support_movie_id=[None, None], support_label=[None, None], support_length=[None])


def test_same_seed_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name, {"adapt": ADAPT})
    write(tmp_path / "c", {"adapt": ADAPT}, seed=1)
    first, second, other = ((tmp_path / n).read_bytes() for n in "abc")
    assert first == second != other


@pytest.mark.parametrize("unit", ["rating", "click", "weight"])
def test_labels_are_in_range_and_lengths_full(tmp_path, unit):
    assert write(tmp_path / "w", {"adapt": ADAPT}, unit=unit, plain=unit == "click") == 8
    label = make_spec(unit).label
    for request in read(tmp_path / "w"):
        inputs = decode(request)
        assert (inputs["support_length"] == inputs["support_label"].shape[1]).all()
        assert ((inputs["support_label"] >= label.minimum) & (inputs["support_label"] <= label.maximum)).all()
        if unit == "click":
            assert (inputs["support_label"] == 1).all()


def test_examples_carry_what_their_signature_needs(tmp_path):
    import tensorflow as tf

    write(tmp_path / "w", {"adapt_and_score": ADAPT, "adapt_and_score_examples": describe(examples=[None])})
    found = [decode(r)["examples"] for r in read(tmp_path / "w")
             if r.model_spec.signature_name == "adapt_and_score_examples"]
    assert sorted(len(f) for f in found) == sorted([1, 4, 8, 16] * 2)
    widths = set()
    for examples in found:
        features = tf.train.Example.FromString(examples[0]).features.feature
        assert set(features) == {"support_movie_id", "support_label"}
        assert len(features["support_movie_id"].bytes_list.value) == len(features["support_label"].float_list.value)
        widths.add(len(features["support_label"].float_list.value))
    assert widths == {1, BOUND}


def test_records_beyond_what_a_server_takes(tmp_path):
    with pytest.raises(ExportError, match="at most 1000 warm-up requests"):
        write(tmp_path / "w", {"adapt": ADAPT}, batch_sizes=tuple(range(1, 502)))


def test_an_input_that_nobody_can_fill(tmp_path):
    with pytest.raises(ExportError, match="a value for the input 'mood'"):
        write(tmp_path / "w", {"adapt": describe(mood=[None])})


def test_states_have_the_width_of_the_model(tmp_path):
    state = {"user_state": {"dtype": "float32", "shape": [None, 7]}}
    write(tmp_path / "w", {"adapt": {"inputs": {}, "outputs": state},
                           "score_with_state": describe(user_state=[None, 7], state_model=[None])})
    request = read(tmp_path / "w")[-1]
    assert decode(request)["user_state"].shape == (16, 7)
    assert decode(request)["state_model"].tolist() == [b"f"] * 16
    assert np.isfinite(decode(request)["user_state"]).all()
