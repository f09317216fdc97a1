"""Good and bad requests of strangers in one batch, merged as TensorFlow Serving merges them."""

import numpy as np
import pytest
from export_cases import combinations
from hypothesis import given, settings
from hypothesis import strategies as st
from request_helpers import make_request, merge
from signature_requests import LISTS, PREDICT, SPOILT, WITH_SUPPORT, convert, good_requests, spoilt_request

# Rounding: products of another width or batch may sum in another order.
CLOSE = {"rtol": 2e-5, "atol": 5e-6}


@pytest.fixture(params=combinations())
def key(request):
    return request.param


def parts(outputs, requests):
    """Splits the outputs of a merged batch: one dictionary a request, widths still those of the batch."""
    start, split = 0, []
    for request in requests:
        size = len(next(iter(request.values())))
        split.append({name: value[start:start + size] for name, value in outputs.items()})
        start += size
    return split


def cut(value, like):
    """Slices the columns off that padding added."""
    return value[(slice(None), *map(slice, like.shape[1:]))]


def assert_finite(outputs):
    for name, value in outputs.items():
        if name == "scores" and "item_count" in outputs:
            # A list has scores of -inf after its end.
            listed = np.arange(value.shape[1]) < outputs["item_count"][:, None]
            assert (value[~listed] == -np.inf).all()
            value = value[listed]
        assert value.dtype.kind != "f" or np.isfinite(value).all(), name


def mixed_cases():
    """Every signature of every export."""
    for parameter in combinations():
        ((model, scope, _, mode),) = parameter.values
        for signature in PREDICT:
            if signature not in LISTS or (model, scope, mode) == ("two_tower", "user_vector", "catalogue"):
                name = f"{parameter.id}-{signature}"
                yield pytest.param(*parameter.values, signature, id=name, marks=parameter.marks)


@pytest.mark.parametrize(("key", "signature"), mixed_cases())
def test_bad_requests_leave_their_neighbours_alone(exports, servables, key, signature):
    exported, servable = exports[key], servables[key]
    good = [convert(signature, r, servable) for r in good_requests(exported)]
    shape = {"batch": 1, "width": 4, "query": 3, "length": 3}
    bad = [convert(signature, spoilt_request(exported, kind, seed=10 + i, **shape), servable)
           for i, kind in enumerate(SPOILT)]
    other = [convert(signature, make_request(exported, seed=30 + i, **shape), servable) for i in range(len(bad))]
    requests = [*good[:2], *bad, *good[2:]]
    mixed = servable.run(signature, merge(requests))
    clean = servable.run(signature, merge([*good[:2], *other, *good[2:]]))
    assert_finite(mixed)
    split, clean = parts(mixed, requests), parts(clean, requests)
    for position, request in enumerate(requests):
        alone = servable.run(signature, request)
        assert_finite(alone)
        for name, value in alone.items():
            received = cut(split[position][name], value)
            if position == 2 + list(SPOILT).index("length") and name != "status":
                continue  # Beyond its own width it counts what the merge padded: its own loss, and it is told.
            if value.dtype.kind == "f":
                np.testing.assert_allclose(received, value, err_msg=name, **CLOSE)
            else:
                np.testing.assert_array_equal(received, value, err_msg=name)
        if not 2 <= position < 2 + len(bad):
            # The same shapes: not one bit depends on what the neighbours sent.
            for name, value in split[position].items():
                np.testing.assert_array_equal(value, clean[position][name], err_msg=name)
    assert len(mixed["status"]) == 16 > sum(len(p["status"]) for p in split)
    for (kind, (_, with_support, without)), part in zip(SPOILT.items(), split[2:], strict=False):
        expected = with_support if signature in WITH_SUPPORT else without
        if signature.endswith("_examples") and "length" in kind:
            expected = 0  # Lengths are those of the lists.
        if signature == "embed_items" and key[3] == "catalogue":
            expected = 0
        if signature == "recommend" and "length" in kind:
            expected = 8  # Of what is left out.
        assert part["status"].tolist() == [expected], kind


def test_states_of_others_and_broken_ones(exports, servables, key):
    """Merged with good ones, and wider than theirs."""
    exported, servable = exports[key], servables[key]
    good = convert("score_with_state", make_request(exported, batch=2, query=4, seed=5), servable)
    plain = {k: v for k, v in good.items() if k not in ("user_state", "state_model")}
    base, adapted = servable.run("score", plain)["scores"], servable.run("score_with_state", good)["scores"]
    assert np.abs(adapted - base).max() > 1e-3

    def state(values, model=good["state_model"]):
        return {**plain, "user_state": np.asarray(values, np.float32), "state_model": model}

    own, another = good["user_state"], np.array([b"another model"] * 2, object)
    huge, broken = np.full_like(own, 1e38), own.copy()
    huge[:, ::2] *= -1
    broken[0, 0], broken[1, -1] = np.nan, -np.inf
    requests = {"good": (good, 0), "foreign": (state(own, another), 4), "foreign, broken": (state(broken, another), 4),
                "foreign, wider": (state(np.pad(own, [[0, 0], [0, 3]]), another), 4),
                "broken": (state(broken), 2), "huge": (state(huge), None),
                "unnamed": (state(own, np.array([b"", b""], object)), 4)}
    merged = servable.run("score_with_state", merge([r for r, _ in requests.values()]))
    assert_finite(merged)
    for (name, (request, status)), part in zip(requests.items(), parts(merged, [r for r, _ in requests.values()]),
                                               strict=True):
        if status is not None:
            assert part["status"].tolist() == [status] * 2, name
            np.testing.assert_allclose(part["scores"], base if status else adapted, err_msg=name, **CLOSE)
        alone = servable.run("score_with_state", request)
        np.testing.assert_allclose(part["scores"], alone["scores"], err_msg=name, **CLOSE)
    narrow = servable.run("score_with_state", state(own[:, :max(1, own.shape[1] - 1)]))
    if own.shape[1] > 1:
        np.testing.assert_array_equal(narrow["scores"], base)
        assert narrow["status"].tolist() == [4, 4]


numbers = st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), 1e38, -1e38, 1e-45, 3.0, 5.0])
words = st.sampled_from(["m0", "m1", "m3", "m11", "", "never seen"]) | st.text(max_size=4)
WIDTH, QUERY = 4, 3


@st.composite
def tasks(draw):
    """One task's values, and a state of any numbers."""
    return {"zip": draw(words), "age": draw(numbers),
            "length": draw(st.integers(0, WIDTH) | st.integers(-2**31, 2**31 - 1)),
            "labels": draw(st.lists(numbers, min_size=WIDTH, max_size=WIDTH)),
            "support": draw(st.lists(words, min_size=WIDTH, max_size=WIDTH)),
            "query": draw(st.lists(words, min_size=QUERY, max_size=QUERY)),
            "state": draw(st.lists(numbers, min_size=3, max_size=3))}


def array(values, dtype=object):
    if dtype is object:
        flat = np.empty(np.shape(values), object)
        flat.ravel()[:] = [v.encode("utf-8", "surrogatepass") for v in np.ravel(np.array(values, object)).tolist()]
        return flat
    with np.errstate(over="ignore"):
        return np.array(values, dtype)


@pytest.mark.parametrize("key", combinations(
    [("two_tower", "user_vector", "rating", "catalogue"), ("embedding", "all", "weight", "catalogue")]))
@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(tasks(), min_size=1, max_size=3))
def test_no_value_makes_a_graph_fail(exports, servables, key, drawn):
    servable, info = servables[key], exports[key].recommender.feature_spec.label
    inputs = {"user_zip_code": array([t["zip"] for t in drawn]),
              "user_age": array([t["age"] for t in drawn], np.float32),
              "query_movie_id": array([t["query"] for t in drawn]),
              "support_movie_id": array([t["support"] for t in drawn]),
              "support_label": array([t["labels"] for t in drawn], np.float32),
              "support_length": np.array([t["length"] for t in drawn], np.int32)}
    outputs = servable.run("adapt_and_score", inputs)
    assert_finite(outputs)
    inside = np.clip(inputs["support_length"], 0, WIDTH)
    used = np.arange(WIDTH) < inside[:, None]
    dropped = (used & ~np.isfinite(inputs["support_label"])).any(1)
    expected = dropped + 2 * ~np.isfinite(inputs["user_age"]) + 8 * (inside != inputs["support_length"])
    assert outputs["status"].tolist() == expected.tolist()
    # Whatever lies beyond the length, and outside the label's range, makes no difference.
    tidy = {**inputs, "support_length": inside, "support_label": np.where(
        used & np.isfinite(inputs["support_label"]), np.clip(inputs["support_label"], info.minimum, info.maximum),
        np.where(used, np.nan, info.minimum)).astype(np.float32)}
    np.testing.assert_array_equal(servable.run("adapt_and_score", tidy)["scores"], outputs["scores"])

    kept = servable.run("adapt", {k: v for k, v in inputs.items() if not k.startswith("query_")})
    assert_finite(kept)
    assert kept["status"].tolist() == expected.tolist()
    query = {k: v for k, v in inputs.items() if not k.startswith("support_")}
    state = np.resize(array([t["state"] for t in drawn], np.float32), kept["user_state"].shape)
    for states in (kept["user_state"], state):
        scored = servable.run("score_with_state", {**query, "user_state": states, "state_model": kept["state_model"]})
        assert_finite(scored)
        assert not (scored["status"] & ~2).any()
    assert_finite(servable.run("score", query))
