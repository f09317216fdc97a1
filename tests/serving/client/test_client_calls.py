"""Every high-level call over gRPC, REST and asyncio against a real server."""

import numpy as np
import pandas as pd
import pytest

from tfmeta.errors import ConfigError, DataError
from tfmeta.serving.client import InvalidRequest, NotFound, StatusError, UserState

USER = {"age": 30, "zip-code": "a", "tags": ["x", "y"], "place": [1.0, 2.0]}
WORTH = 30 + 20 + 3
SUPPORT = [("m1", 5.0), ("m2", 2.0)]


def test_score(client):
    result = client.score(user=USER, candidates=["m3", "m9", "nobody knows it"])
    np.testing.assert_array_equal(result.scores, np.float32([3, 9, -1]) + WORTH)
    assert result.items.tolist() == ["m3", "m9", "nobody knows it"] and result.base_scores is None
    assert result.ranked()[0] == ("m9", WORTH + 9.0)
    assert result.scores.dtype == np.float32 and result.status == 0


def test_adapt_and_score(client):
    result = client.adapt_and_score(user=USER, support=SUPPORT, candidates=["m3", "m9"])
    np.testing.assert_array_equal(result.base_scores, np.float32([3, 9]) + WORTH)
    np.testing.assert_array_equal(result.scores, np.float32([6.5, 12.5]) + WORTH)


def test_empty_support_and_unknown_user(client):
    for support in (None, []):
        result = client.adapt_and_score(support=support, candidates=["m3"], user=None)
        np.testing.assert_array_equal(result.scores, result.base_scores)
        assert result.scores.tolist() == [3.0]
    assert client.adapt_and_score(support=SUPPORT, candidates=[]).scores.shape == (0,)


def test_batch_of_ragged_lists(client):
    results = client.adapt_and_score(
        user=[USER, {"age": 1.0}, {}], support=[SUPPORT, None, [("m1", 1.0), ("m1", 2.0), ("m2", 4.5)]],
        candidates=[["m1"], [], ["m2", "m3", "m4"]])
    assert [r.items.tolist() for r in results] == [["m1"], [], ["m2", "m3", "m4"]]
    assert [r.scores.tolist() for r in results] == [[WORTH + 1 + 3.5], [], [4.5, 5.5, 6.5]]
    shared = client.score(user=[{"age": 1.0}, {"age": 2.0}], candidates=["m1", "m2"])
    assert [r.scores.tolist() for r in shared] == [[2, 3], [3, 4]]
    one_user = client.score(user={"age": 1.0}, candidates=[["m1"], ["m2", "m3"]])
    assert [r.scores.tolist() for r in one_user] == [[2], [3, 4]]
    assert client.score(user=[], candidates=["m1"]) == []


def test_state(client):
    states = client.adapt(user=[USER, {}], support=[SUPPORT, [("m1", 4.0)]])
    assert [s.state.tolist() for s in states] == [[3.5, 2], [4, 1]] and states[0].model == b"model-True-0"
    kept = [UserState.from_bytes(s.to_bytes()) for s in states]
    results = client.score_with_state(user=[USER, {"age": 0.0}], state=kept, candidates=["m0", "m5"])
    assert [r.scores.tolist() for r in results] == [[WORTH + 3.5, WORTH + 8.5], [4, 9]]
    foreign = UserState(states[1].state, b"another model")
    with pytest.raises(StatusError, match="row 1: the state belongs to another model") as caught:
        client.score_with_state(state=[states[0], foreign], candidates=["m0"])
    assert caught.value.stale_rows == [1] and caught.value.rows == {1: 4}
    single = client.score_with_state(state=foreign, candidates=["m0"], accept_status=True)
    assert single.scores.tolist() == [0.0] and single.status == 4


def test_recommend(client):
    plain = client.recommend(user=USER, exclude=["m8", "nobody knows it"])
    assert plain.items.tolist() == ["m9", "m7", "m6", "m5", "m4", "m3"]
    assert plain.scores.tolist() == [WORTH + i for i in (9, 7, 6, 5, 4, 3)]
    adapted = client.recommend(support=[("m9", 4.0)], count=2)
    assert adapted.items.tolist() == ["m8", "m7"] and adapted.scores.tolist() == [12, 11]
    few = client.recommend(exclude=[f"m{i}" for i in range(3, 10)])
    assert few.items.tolist() == ["m2", "m1", "m0"]
    many = client.recommend(user=[{}, {}], support=[[("m9", 1.0)], None], exclude=[[], ["m8", "m9"]],
                            count=1)
    assert [m.items.tolist() for m in many] == [["m8"], ["m7"]] 


def test_explain(client):
    result = client.explain(support=SUPPORT, candidates=["m3", "m4", "m5"])
    np.testing.assert_array_equal(result.influence, [[2.5, 1.0]] * 3)
    assert result.support.tolist() == ["m1", "m2"] and result.items.tolist() == ["m3", "m4", "m5"]
    np.testing.assert_array_equal(result.scores - result.base_scores, [3.5] * 3)
    both = client.explain(user=[{}, {}], support=[SUPPORT, []], candidates=[["m1"], ["m1", "m2"]])
    assert [b.influence.shape for b in both] == [(1, 2), (2, 0)]


def test_items_with_features(client):
    candidates = [{"movie": "new", "price": 4, "genres": ["x"]}, {"price": 1.5, "name": "told, not sent"},
                  {"item_id": "m1", "price": 0.0, "genres": ["x", "y", "cut off"]}]
    result = client.score("films", candidates=candidates)
    assert result.scores.tolist() == [14, 1.5, 20]
    support = [{"movie": "m1", "price": 3.0, "stars": 4.0}, {"price": 1.0, "label": 5}]
    rated = [(item, 4.5) for item in candidates[:1]]
    assert client.adapt_and_score("films", support=support, candidates=candidates[:1]).scores.tolist() == [18.5]
    assert client.adapt_and_score("films", support=rated, candidates=candidates[:1]).scores.tolist() == [18.5]
    arrays = {"movie": np.array(["a", "b"]), "price": np.array([2.0, 3.0]), "genres": [["x"], []]}
    assert client.score("films", candidates=arrays).scores.tolist() == [12, 3]
    batch = {"movie": [["a", "b"], ["c", ""]], "price": np.array([[2.0, 3.0], [4.0, 0.0]]), "length": [2, 1]}
    assert [r.scores.tolist() for r in client.score("films", candidates=batch)] == [[2, 3], [4]]
    with pytest.raises(DataError, match="exported without a catalogue: movie, price, genres"):
        client.score("films", candidates=["m1"])


def test_data_frames(client):
    users = pd.DataFrame({"user": ["u2", "u1"], "age": [1.0, 2.0], "zip-code": ["a", None], "tags": [["x"], None],
                          "place": [[0.0, 0.0], [1.0, 1.0]], "unused": 1})
    ratings = pd.DataFrame({"user": ["u1", "u2", "u1"], "movie": ["m1", "m2", "m3"], "stars": [3.0, 5.0, 4.0]})
    queries = pd.DataFrame({"user_id": ["u2", "u1", "u1"], "item_id": ["m0", "m1", "m2"]})
    results = client.adapt_and_score(user=users, support=ratings, candidates=queries)
    assert [r.items.tolist() for r in results] == [["m0"], ["m1", "m2"]]
    assert [r.scores.tolist() for r in results] == [[11 + 5], [4 + 1 + 3.5, 4 + 2 + 3.5]]
    shared = client.score(user=users, candidates=pd.DataFrame({"movie": ["m1", "m2"]}))
    assert [r.scores.tolist() for r in shared] == [[12, 13], [5, 6]]
    one = client.adapt_and_score(support=ratings[ratings.user == "u1"], candidates=pd.Series(["m1", "m2"]))
    assert one.scores.tolist() == [4.5, 5.5]
    lists = client.adapt_and_score(user=users, support=[ratings[:1], ratings[1:]], candidates=["m0"])
    assert [r.scores.tolist() for r in lists] == [[14], [4 + 4.5]]
    with pytest.raises(DataError, match="several users in column 'user'"):
        client.adapt_and_score(support=ratings, candidates=["m1"])
    with pytest.raises(DataError, match="require users of the user argument in column 'user', received 'u2'"):
        client.adapt_and_score(user=users[1:], support=ratings, candidates=["m1"])


def test_clicks_need_no_labels(client):
    for support in (["m1", "m2"], [["m1", "m2"]], [{"movie": "m1"}, {"movie": "m2"}], pd.DataFrame({"movie": ["m1"]}),
                    {"movie": np.array([["m1", "m2"]])}):
        result = client.adapt_and_score("clicks", support=support, candidates=["m3"])
        result = result[0] if isinstance(result, list) else result
        assert result.scores.tolist() == [4.0]


def test_a_missing_number_is_fine_and_an_infinite_one_is_reported(client):
    users = [{"age": None}, {"age": float("nan"), "place": None}, {"age": 1.0, "place": [0.0, 0.0]}]
    assert [r.scores.tolist() for r in client.score(user=users, candidates=["m1"])] == [[1], [1], [2]]
    with pytest.raises(StatusError, match="row 1: a non-finite feature was replaced") as caught:
        client.score(user=[{"age": 1.0}, {"age": float("inf")}], candidates=["m1"])
    assert caught.value.rows == {1: 2} and caught.value.code == "DATA_LOSS"
    with pytest.raises(StatusError, match="row 0: a non-finite label was dropped"):
        client.adapt_and_score(support=[("m1", float("nan"))], candidates=["m1"])
    items = [{"price": None}, {"price": 2.0}]
    assert client.score("films", candidates=items).scores.tolist() == [0, 2]


def test_predict_is_the_raw_call(client):
    inputs = {"document": np.array(["export", "nothing"])}
    outputs = client.predict("movies", inputs, signature="metadata")
    assert outputs["json"].dtype == object and outputs["json"][1] == b"" and outputs["json"][0].startswith(b"{")
    assert outputs["status"].dtype == np.int32
    state = client.predict("movies", {
        "user_age": np.float32([1]), "user_zip_code": [""], "user_tags": [["", "", ""]],
        "user_place": np.float32([[0, 0]]), "support_movie": [["m1"]], "support_label": np.float32([[4]]),
        "support_length": np.int32([1])}, signature="adapt")
    assert state["state_model"].tolist() == [b"model-True-0"]


def test_errors_carry_the_servers_message(client):
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(nope\)") as caught:
        client.score("nope", candidates=["m1"])
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(NotFound, match=r"Specific\(movies, 7\)"):
        client.predict("movies", {"document": ["export"]}, signature="metadata", version=7)
    with pytest.raises(InvalidRequest, match="Unrecognized servable version label: canary"):
        client.score(candidates=["m1"], label="canary")
    words = r"input size does not match signature: 1!=5|Missing named input: user_age"
    with pytest.raises(InvalidRequest, match=words):
        client.predict("movies", {"query_movie": [["m1"]]})
    with pytest.raises(InvalidRequest, match='"zzz" not found'):
        client.predict("movies", {"query_movie": [["m1"]]}, signature="zzz")
    with pytest.raises(InvalidRequest, match=r'"recommend" not found\. Model \'films\' has: adapt'):
        client.recommend("films")
    with pytest.raises(InvalidRequest, match=r"Input support_label has no elements \(shape \[1, 0\]\)"):
        client.predict("movies", {"support_label": np.zeros((1, 0), np.float32)}, signature="adapt")
    with pytest.raises(InvalidRequest, match=r"tf.Example messages, received b'\\xff' in row 1"):
        client.predict("movies", {"examples": np.array([b"", b"\xff"], object)}, signature="score_examples")
    with pytest.raises(ConfigError, match="a version or a label"):
        client.score(candidates=["m1"], version=1, label="stable")


def test_version_status_and_description(client):
    assert client.versions("films") == [2] and client.wait_until_available("films") == 2
    with pytest.raises(NotFound, match="Could not find any versions of model nope"):
        client.versions("nope")
    description = client.describe("films")
    assert description.version == 2 and not description.by_id and description.support_bound == 4
    assert [f.name for f in description.item_features] == ["movie", "price", "genres"]
    assert client.score("films", candidates=[{"price": 1.0}], version=2).version == 2


@pytest.mark.parametrize(("arguments", "message"), [
    ({"candidates": "m1"}, "candidates require a list"), ({"candidates": [1.5]}, "require ids, received 1.5 in row 0"),
    ({"candidates": ["m1", ["m2"]]}, r"require ids, received \['m2'\] in row 1"),
    ({"candidates": [["m1"], "m2"]}, "require a list for every user, received 'm2' for user 1"),
    ({"candidates": ["m1", {"movie": "m2"}]}, "ids or mappings of features, not both"),
    ({"candidates": [{"price": 1.0}]}, "require 'movie' in every row"),
    ({"candidates": [{"movie": "m1", "prise": 1.0}]}, "Unknown feature 'prise' .* Did you mean 'price'"),
    ({"candidates": pd.DataFrame({"film": ["m1"]})}, r"require column 'movie', received columns \['film'\]"),
    ({"user": {"aeg": 3}}, "Unknown feature 'aeg' of the user. Did you mean 'age'"),
    ({"user": [{"age": 3}, 4]}, "received 4 in row 1"), ({"user": 4}, "received int"),
    ({"user": {"age": "old"}}, "Feature 'age' of the user requires a number, received 'old' in row 0"),
    ({"user": {"age": [1.0, 2.0], "zip-code": "a"}}, "'zip-code' of the user requires a value for one user"),
    ({"user": {"age": [1.0, 2.0], "zip-code": ["a"]}}, "columns of one length"),
    ({"user": {"tags": "x|y"}}, "'tags' of the user requires a list for one user"),
    ({"user": {"place": [1.0]}}, "requires a vector of 2 numbers, received"),
    ({"user": pd.DataFrame({"age": [1.0]})}, "requires column 'zip-code'"),
    ({"user": [{}, {}], "candidates": [["m1"]]}, "same number of users, received user for 2, candidates for 1"),
    ({"support": ["m1"]}, r"require \(item, stars\) pairs or mappings, received 'm1'"),
    ({"support": [("m1", 5.0), "m2"]}, "received 'm2'"), ({"support": [{"movie": "m1"}]}, "require 'stars' for every"),
    ({"support": [("m1", None)]}, "received none in row 0"),
    ({"support": pd.DataFrame({"movie": ["m1"]})}, "require column 'stars'"),
    ({"support": {"movie": ["m1"], "stars": [1.0, 2.0]}}, "requires 1 values like the ids, received 2"),
])
def test_arguments_that_do_not_fit(grpc_client, arguments, message):
    with pytest.raises(DataError, match=message):
        grpc_client.adapt_and_score(**{"candidates": ["m1"], "support": SUPPORT, **arguments})
