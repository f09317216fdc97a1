"""Requests as serialised tf.Example."""

import numpy as np
import pytest
from export_cases import BOUND, combinations
from request_helpers import make_request, rows, without_support
from signature_requests import to_examples, write_list

CLOSE = {"rtol": 2e-5, "atol": 5e-6}


@pytest.fixture(params=combinations())
def key(request):
    return request.param


def run(servable, examples, signature="adapt_and_score_examples"):
    array = np.empty(len(examples), object)
    array[:] = [e if isinstance(e, bytes) else e.SerializeToString() for e in examples]
    return servable.run(signature, {"examples": array})


def example_of(inputs, row=0, *, support=True):
    import tensorflow as tf

    return tf.train.Example.FromString(to_examples(rows(inputs, slice(row, row + 1)), support=support)[0])


def test_examples_say_what_tensors_say(exports, servables, key):
    inputs = make_request(exports[key], batch=4, width=BOUND + 3, query=6, seed=1)
    inputs["support_length"] = np.array([BOUND + 3, 2, 0, 5], np.int32)
    expected = servables[key].run("adapt_and_score", inputs)
    received = run(servables[key], to_examples(inputs, support=True))
    assert received.pop("query_length").tolist() == [6] * 4
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], **CLOSE)
    plain = run(servables[key], to_examples(inputs, support=False), "score_examples")
    assert set(plain) == {"scores", "query_length", "status"}
    np.testing.assert_allclose(plain["scores"], expected["base_scores"], **CLOSE)
    # `score_examples` does not mind a support.
    np.testing.assert_array_equal(run(servables[key], to_examples(inputs, support=True), "score_examples")["scores"],
                                  plain["scores"])


def test_examples_of_every_width(exports, servables, key):
    """As alone, sliced to the example's own candidates."""
    requests = [make_request(exports[key], batch=1, width=w, query=q, length=n, seed=w)
                for w, q, n in ((1, 3, 1), (5, 1, 5), (2, 4, 0), (BOUND + 6, 2, BOUND + 6))]
    received = run(servables[key], [example_of(r) for r in requests])
    assert received["query_length"].tolist() == [3, 1, 4, 2]
    assert received["scores"].shape == (4, 4)
    assert not received["status"].any()
    for row, request in enumerate(requests):
        alone, size = servables[key].run("adapt_and_score", request), received["query_length"][row]
        for name in ("scores", "base_scores"):
            np.testing.assert_allclose(received[name][row, :size], alone[name][0], **CLOSE)


def test_absent_lists_are_missing_values(exports, servables, key):
    import tensorflow as tf

    inputs = make_request(exports[key], batch=1, length=3, seed=6)
    bare = example_of(inputs)
    for name in list(bare.features.feature):
        if name.startswith("user_") or (name.startswith(("query_", "support_"))
                                        and not name.endswith(("movie_id", "label"))):
            del bare.features.feature[name]
    empty = tf.train.Example.FromString(bare.SerializeToString())
    for name in ("user_age", "user_zip_code"):
        empty.features.feature[name].CopyFrom(tf.train.Feature())
    missing = {k: v.copy() for k, v in inputs.items()}
    for name, value in missing.items():
        if name.startswith("user_") or not name.endswith(("movie_id", "label", "length")):
            value[:] = np.nan if value.dtype.kind == "f" else b""
    expected = servables[key].run("adapt_and_score", missing)
    for example in (bare, empty):
        received = run(servables[key], [example])
        np.testing.assert_allclose(received["scores"], expected["scores"], **CLOSE)
        assert received["status"].tolist() == [0]
    nothing = run(servables[key], [tf.train.Example(), b"", bare])
    assert nothing["query_length"].tolist() == [0, 0, 5]
    assert nothing["status"].tolist() == [0, 0, 0]
    assert np.isfinite(nothing["scores"]).all()
    np.testing.assert_allclose(nothing["scores"][2], expected["scores"][0], **CLOSE)
    alone = run(servables[key], [tf.train.Example()])
    assert alone["scores"].shape == (1, 1)  # No tensor is empty, whatever is merged.


def test_lists_that_do_not_fit_are_reported_and_cut(exports, servables, key):
    inputs = make_request(exports[key], batch=1, width=4, length=4, seed=2)
    example = example_of(inputs)
    del example.features.feature["support_label"].float_list.value[3:]
    shorter = {**inputs, "support_length": np.array([3], np.int32)}
    received = run(servables[key], [example, example_of(inputs)])
    assert received["status"].tolist() == [8, 0]
    np.testing.assert_allclose(received["scores"][:1], servables[key].run("adapt_and_score", shorter)["scores"],
                               **CLOSE)
    example = example_of(inputs)
    example.features.feature["user_age"].float_list.value.append(5.0)
    received = run(servables[key], [example])
    assert received["status"].tolist() == [8]
    np.testing.assert_allclose(received["scores"], servables[key].run("adapt_and_score", inputs)["scores"], **CLOSE)
    if key[3] == "request":
        example = example_of(inputs, support=False)
        del example.features.feature["query_vector"].float_list.value[-2:]
        cut = {k: v.copy() for k, v in without_support(inputs).items()}
        cut["query_vector"][0, -1, 1:] = 0.0  # The mean, as which missing numbers count.
        received = run(servables[key], [example], "score_examples")
        assert received["status"].tolist() == [8]
        np.testing.assert_allclose(received["scores"], servables[key].run("score", cut)["scores"], **CLOSE)


def test_only_what_is_no_example_fails(exports, servables):
    from tfmeta.serving.request_error import RequestError

    key = ("two_tower", "user_vector", "rating", "catalogue")
    example = example_of(make_request(exports[key], batch=1))
    with pytest.raises(RequestError, match="Could not parse example") as caught:
        run(servables[key], [b"\xff\xff no example"])
    assert caught.value.code == "INVALID_ARGUMENT"
    del example.features.feature["user_age"]
    write_list(example, "user_age", np.array([3], np.int64))
    with pytest.raises(RequestError, match="user_age"):
        run(servables[key], [example])
