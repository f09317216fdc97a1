"""What a client makes of values of any kind: a tensor of the right form, or an error that is the caller's to mend."""

import json

import numpy as np
import pandas as pd
import pytest
from client_models import make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.data.feature import Feature
from tfmeta.errors import DataError
from tfmeta.serving.client import ClientOptions, ModelDescription, UserState
from tfmeta.serving.client.calls import PredictReply
from tfmeta.serving.client.item_lists import ItemLists
from tfmeta.serving.client.raw_values import raw_values
from tfmeta.serving.client.request_batch import RequestBatch
from tfmeta.serving.client.rest_messages import read_outputs
from tfmeta.serving.client.user_rows import parse_users
from tfmeta.serving.request_error import RequestError

FEATURES = [Feature("c", "categorical", "string"), Feature("i", "categorical", "int64"),
            Feature("n", "numeric", "float32"), Feature("t", "text", "string", length=3),
            Feature("m", "multi_categorical", "string", length=2), Feature("v", "dense_vector", "float32", length=2)]
SIGNATURES = {name: {} for name in ("score", "adapt_and_score", "explain")}
SCALARS = (st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
           | st.sampled_from([pd.NA, pd.NaT, np.float32(2), np.int64(3), np.str_("s"), np.bool_(True)]))
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(
    st.sampled_from(["movie", "price", "genres", "stars", "age", "x"]), inner, max_size=3), max_leaves=8)


def describe(*, by_id=True, unit="rating", bound=4) -> ModelDescription:
    return ModelDescription("m", 1, make_spec(unit), {
        "item_features": "catalogue" if by_id else "request", "support_bound": bound, "signatures": SIGNATURES})


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FEATURES), st.lists(ANYTHING, max_size=4))
def test_any_values_give_a_tensor_or_an_error(feature, values):
    try:
        array = raw_values(values, feature, where="the test")
    except DataError as error:
        assert f"'{feature.name}'" in str(error)
        return
    assert array.shape == (len(values), *feature.raw_shape)
    assert array.dtype == {"string": object, "int64": np.int64, "float32": np.float32}[feature.dtype]
    if feature.dtype == "string":
        assert all(isinstance(v, str | bytes) for v in array.ravel().tolist())


@settings(max_examples=300, deadline=None)
@given(ANYTHING, ANYTHING, ANYTHING, st.booleans(), st.sampled_from(["rating", "click"]))
def test_any_arguments_give_requests_or_an_error(user, support, candidates, by_id, unit):
    try:
        batch = RequestBatch(describe(by_id=by_id, unit=unit), "adapt_and_score",
                             {"user": user, "support": support, "candidates": candidates}, options=ClientOptions())
        calls = batch.calls("m", version=None, label=None)
    except DataError:
        return
    for call in calls:
        rows = {len(v) for v in call.inputs.values()}
        assert len(rows) == 1 and all(v.size for v in call.inputs.values())
        length = call.inputs["support_length"]
        assert (length >= 0).all() and (length <= call.inputs["support_label"].shape[1]).all()


@pytest.mark.parametrize(("feature", "values", "expected"), [
    (FEATURES[0], ["a", None, np.nan, pd.NA, 5, np.int32(6), b"b"], ["a", "", "", "", "5", "6", b"b"]),
    (FEATURES[0], np.array(["a", "b"]), ["a", "b"]), (FEATURES[0], np.array([1, 2]), ["1", "2"]),
    (FEATURES[0], pd.Series(["a", None]), ["a", ""]), (FEATURES[0], pd.Series(["x"], dtype="category"), ["x"]),
    (FEATURES[1], [1, None, 2.0], [1, -1, 2]), (FEATURES[1], pd.Series([1, None]), [1, -1]),
    (FEATURES[1], pd.Series([2**62, 1]), [2**62, 1]), (FEATURES[1], np.uint8([3]), [3]),
    (FEATURES[2], [1, 2.5, True], [1, 2.5, 1]), (FEATURES[2], np.array([1, 2]), [1, 2]),
    (FEATURES[2], [10**400, 1e300], [np.inf, np.inf]),
    (FEATURES[4], [["a"], None, ("b", "c", "d"), np.array(["e"])], [["a", ""], ["", ""], ["b", "c"], ["e", ""]]),
    (FEATURES[4], np.array([["a", "b", "c"]]), [["a", "b"]]),
    (FEATURES[5], [[1, 2], np.array([3.5, 4])], [[1, 2], [3.5, 4]]), (FEATURES[5], np.ones((2, 2)), np.ones((2, 2)))])
def test_values(feature, values, expected):
    array = raw_values(values, feature, where="the test")
    assert array.tolist() == np.array(expected, array.dtype).tolist()


@pytest.mark.parametrize(("feature", "values", "message"), [
    (FEATURES[0], [1.5], "requires text, received 1.5 in row 0"), (FEATURES[0], ["a", True], "received True in row 1"),
    (FEATURES[1], ["3"], "requires an integer of 64 bits, received '3'"), (FEATURES[1], [2.5], "received 2.5"),
    (FEATURES[1], [2**63], "received 9223372036854775808"), (FEATURES[1], np.uint64([2**63]), "an integer of 64 bits"),
    (FEATURES[2], [None, "3"], "requires a number, received '3' in row 1"),
    (FEATURES[2], np.ones((2, 2)), r"one value a row, received an array of shape \(2, 2\)"),
    (FEATURES[4], ["a"], "requires a list"), (FEATURES[5], [[1.0]], "a vector of 2 numbers"),
    (FEATURES[5], np.ones((1, 3)), "vectors of 2 numbers, received 3"), (FEATURES[5], [["a", "b"]], "a number")])
def test_wrong_values(feature, values, message):
    with pytest.raises(DataError, match=message):
        raw_values(values, feature, where="the test")


RAGGED = st.lists(st.lists(st.tuples(st.sampled_from([f"m{i}" for i in range(9)]), st.integers(1, 5)), max_size=6),
                  min_size=1, max_size=5)


@settings(max_examples=100, deadline=None)
@given(RAGGED)
def test_all_forms_of_a_support_say_the_same(lists):
    description = describe()
    users = parse_users([{"user": i} for i in range(len(lists))], make_spec())
    items = ItemLists(description, users=users)
    flat = [(user, *pair) for user, pairs in enumerate(lists) for pair in pairs]
    table = pd.DataFrame(flat, columns=["user", "movie", "stars"])
    width = max(1, *map(len, lists))
    arrays = {"movie": [[m for m, _ in pairs] + ["?"] * (width - len(pairs)) for pairs in lists],
              "stars": [[s for _, s in pairs] + [0] * (width - len(pairs)) for pairs in lists],
              "length": [len(pairs) for pairs in lists]}
    forms = [lists, [[list(pair) for pair in pairs] for pairs in lists],
             [[{"movie": m, "stars": s} for m, s in pairs] for pairs in lists], arrays, table,
             [table[table.user == u] for u in range(len(lists))]]
    for form in forms:
        ragged = items.support(form)
        assert ragged.batched and ragged.counts.tolist() == [len(pairs) for pairs in lists]
        assert ragged.columns["movie"].tolist() == [m for _, m, _ in flat]
        assert ragged.labels.tolist() == [s for _, _, s in flat]
        index = ragged.index(np.arange(len(lists)), width=width)
        assert ragged.padded(index)["movie"].tolist() == [[m for m, _ in pairs] + [""] * (width - len(pairs))
                                                          for pairs in lists]
        kept = ragged.tail(2)
        assert kept.columns["movie"].tolist() == [m for pairs in lists for m, _ in pairs[-2:]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=7), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_parts_join_to_the_whole(counts, max_batch, max_candidates, shared):
    lists = [[f"m{u}_{i}" for i in range(n)] for u, n in enumerate(counts)]
    supports = [[("a", float(i)) for i in range(n % 3)] for n in counts]
    arguments = {"user": [{}] * len(lists), "support": supports, "candidates": lists[0] if shared else lists}
    batch = RequestBatch(describe(), "explain", arguments,
                         options=ClientOptions(max_batch=max_batch, max_candidates=max_candidates))
    replies, sent = [], 0
    for call in batch.calls("m", version=None, label=None):
        ids, label = call.inputs["query_movie"], call.inputs["support_label"]
        assert len(ids) <= max_batch and 1 <= ids.shape[1] <= max_candidates
        value = np.array([hash(v) % 1000 for v in ids.ravel()], np.float32).reshape(ids.shape)
        sent += int((ids != "").sum())
        replies.append(PredictReply({"scores": value, "base_scores": -value,
                                     "influence": value[:, :, None] + 1000 * (1 + label[:, None, :]),
                                     "status": np.zeros(len(ids), np.int32)}, 1))
    outputs = batch.answer(replies, accept_status=False)
    assert sent == sum(len(lists[0]) if shared else n for n in counts), "nothing is sent twice"
    for user in range(len(lists)):
        expected = np.array([hash(v) % 1000 for v in (lists[0] if shared else lists[user])], np.float32)
        np.testing.assert_array_equal(outputs["scores"][user], expected)
        np.testing.assert_array_equal(outputs["base_scores"][user], -expected)
        labels = np.array([s for _, s in supports[user]], np.float32)
        np.testing.assert_array_equal(outputs["influence"][user][:, :len(labels)],
                                      expected[:, None] + 1000 * (1 + labels[None, :]))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda b: b"tfmeta.state.1\0" + b))
def test_any_bytes_are_a_state_or_an_error(data):
    try:
        state = UserState.from_bytes(data)
    except DataError:
        return
    assert state.to_bytes() == data


@settings(max_examples=200, deadline=None)
@given(ANYTHING)
def test_any_reply_gives_arrays_or_an_error(value):
    outputs = {"scores": {"dtype": "DT_FLOAT"}, "ids": {"dtype": "DT_STRING"}, "n": {"dtype": "DT_INT32"}}
    for content in ({"outputs": value}, {"outputs": {"scores": value, "ids": value, "n": value}}):
        try:
            content = json.loads(json.dumps(content, default=str))
            arrays = read_outputs(content, outputs)
        except (RequestError, TypeError):
            continue
        assert all(isinstance(a, np.ndarray) for a in arrays.values())
