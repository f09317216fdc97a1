"""What the exported graphs guarantee, for every model, scope and item mode."""

import numpy as np
import pytest
from export_cases import BOUND, COMBINATIONS, FAST, combinations
from request_helpers import make_request, merge, rows, without_support


@pytest.fixture(params=combinations())
def key(request):
    return request.param


def close(received, expected):
    np.testing.assert_allclose(received, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("key", [
    pytest.param(key, id="_".join(key), marks=() if key in FAST[1:3] else pytest.mark.slow) for key in COMBINATIONS])
def test_second_process_verifies(reports, key):
    report = reports[key]
    assert len(report) == 13
    assert [c.detail for c in report if not c.passed] == []
    assert max(c.max_difference for c in report if c.max_difference is not None) < 1e-4


def test_signature_of_names(exports, servables, key):
    items = ["movie_id"] + (["genres", "release_year", "plot", "vector"] if key[3] == "request" else [])
    user = {"user_zip_code", "user_age"}
    query = {f"query_{i}" for i in items}
    definitions = servables[key].signature_defs
    assert set(definitions["score"].inputs) == user | query
    assert set(definitions["score"].outputs) == {"scores", "status"}
    support = {f"support_{i}" for i in items} | {"support_label", "support_length"}
    assert set(definitions["adapt_and_score"].inputs) == user | query | support
    assert set(definitions["adapt_and_score"].outputs) == {"scores", "base_scores", "status"}
    default = "adapt_and_score" if key[1] == "all" else "score"
    assert set(definitions["serving_default"].inputs) == set(definitions[default].inputs)


def test_parity_with_the_recommender(exports, servables, key):
    """The catalogue's table, looked up by id, gives what the recommender gives on features."""
    import tensorflow as tf

    from tfmeta.data.feature_tables import transform_items
    from tfmeta.data.feature_transform import FeatureTransform

    exported = exports[key]
    recommender, spec = exported.recommender, exported.recommender.feature_spec
    inputs = make_request(exported, seed=4)
    row_of = {v.encode(): i for i, v in enumerate(exported.items["item_id"])}
    tables = transform_items(spec, exported.items)

    def encode(ids):
        index = np.vectorize(row_of.get)(ids)
        return recommender.encode_item({k: tf.gather(v, index) for k, v in tables.items()})

    users = FeatureTransform(spec.user_features)(
        {f.name: tf.constant(inputs[f"user_{f.name.replace('-', '_')}"]) for f in spec.user_features})
    scores, base = recommender.adapt_and_score(
        recommender.encode_user(users, tasks=tf.constant(3)), support_item=encode(inputs["support_movie_id"]),
        support_label=tf.constant(inputs["support_label"]), support_length=tf.constant(inputs["support_length"]),
        query_item=encode(inputs["query_movie_id"]))
    outputs = servables[key].run("adapt_and_score", inputs)
    close(outputs["scores"], scores)
    close(outputs["base_scores"], base)
    assert not outputs["status"].any()
    assert np.abs(outputs["scores"] - outputs["base_scores"]).max() > 1e-3  # adaptation is at work


def test_two_loaders_and_the_server_agree(exports, servables, key):
    import tensorflow as tf

    from tfmeta.serving import Client, EmbeddedServer

    exported = exports[key]
    inputs = make_request(exported, seed=5)
    session = servables[key].run("adapt_and_score", inputs)
    loaded = tf.saved_model.load(exported.path)
    eager = loaded.signatures["adapt_and_score"](**{k: tf.constant(v) for k, v in inputs.items()})
    base = exported.path.rsplit("/", 1)[0]
    with EmbeddedServer({"m": base}, grpc_port=0) as server, Client(server.grpc_address) as client:
        served = client.predict("m", inputs, signature="adapt_and_score")
    assert set(session) == set(eager) == set(served)
    for name, value in session.items():
        close(eager[name].numpy(), value)
        np.testing.assert_array_equal(served[name], value)


def test_empty_support_equals_score_bit_for_bit(exports, servables, key):
    inputs = make_request(exports[key])
    plain = servables[key].run("score", without_support(inputs))["scores"]
    nothing_usable = {**inputs, "support_label": np.full_like(inputs["support_label"], np.nan)}
    for empty in ({**inputs, "support_length": np.zeros(3, np.int32)},
                  {**inputs, "support_length": np.full(3, -5, np.int32)},
                  {**{k: v[:, :1] if k.startswith("support_") and v.ndim > 1 else v for k, v in inputs.items()},
                   "support_length": np.zeros(3, np.int32)},
                  nothing_usable):
        outputs = servables[key].run("adapt_and_score", empty)
        assert outputs["scores"].tobytes() == outputs["base_scores"].tobytes() == plain.tobytes()


def test_padding_never_changes_a_bit(exports, servables, key):
    """Width and contents of the padding are the client's or the merge's; the kept rows decide."""
    inputs = make_request(exports[key], length=3)
    expected = servables[key].run("adapt_and_score", inputs)
    spoilt = {k: v.copy() for k, v in inputs.items()}
    spoilt["support_label"][:, 3:] = np.nan
    for name, value in spoilt.items():
        if name.startswith("support_") and name != "support_label" and value.ndim > 1:
            value[:, 3:] = np.inf if value.dtype.kind == "f" else b"nonsense"
    received = servables[key].run("adapt_and_score", spoilt)
    for name in expected:
        np.testing.assert_array_equal(received[name], expected[name])


def test_only_the_last_rows_within_the_bound_count(exports, servables, key):
    inputs = make_request(exports[key], width=BOUND + 4, length=BOUND + 3)
    last = {k: v[:, 3:BOUND + 3] if k.startswith("support_") and v.ndim > 1 else v for k, v in inputs.items()}
    last["support_length"] = np.full(3, BOUND, np.int32)
    close(servables[key].run("adapt_and_score", inputs)["scores"],
          servables[key].run("adapt_and_score", last)["scores"])


def test_order_within_the_bound_does_not_matter(exports, servables, key):
    inputs = make_request(exports[key], length=6)
    turned = {k: v[:, ::-1] if k.startswith("support_") and v.ndim > 1 else v for k, v in inputs.items()}
    close(servables[key].run("adapt_and_score", turned)["scores"],
          servables[key].run("adapt_and_score", inputs)["scores"])


def test_bad_values_are_reported_and_leave_neighbours_alone(exports, servables, key):
    exported = exports[key]
    inputs = make_request(exported, batch=6, length=5)
    expected = servables[key].run("adapt_and_score", inputs)
    bad = {k: v.copy() for k, v in inputs.items()}
    bad["support_label"][1, 2] = np.nan
    bad["support_length"][2] = 99
    bad["user_age"][3] = np.inf
    bad["support_label"][4, :2] = [np.inf, -np.inf]
    bad["support_length"][4] = -1
    bad["query_movie_id"][5, 0] = b"an id that nobody knows"
    status = [0, 1, 8, 2, 8, 0]
    if exported.mode == "request":
        bad["query_vector"][3, 0, 0] = -np.inf
        bad["support_release_year"][1, 0] = np.nan
        status[1] += 2
    received = servables[key].run("adapt_and_score", bad)
    assert received["status"].tolist() == status
    assert all(np.isfinite(received[name]).all() for name in ("scores", "base_scores"))
    np.testing.assert_allclose(received["scores"][0], expected["scores"][0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(received["scores"][5, 1:], expected["scores"][5, 1:], rtol=1e-6, atol=1e-6)
    # A dropped row counts as one that was never sent.
    kept = [0, 1, 3, 4]
    shorter = {k: v[1:2, kept] if k.startswith("support_") and v.ndim > 1 else v[1:2] for k, v in bad.items()}
    shorter["support_length"] = np.array([4], np.int32)
    close(received["scores"][1:2], servables[key].run("adapt_and_score", shorter)["scores"])


def test_labels_are_clipped_into_their_range(exports, servables, key):
    label = exports[key].recommender.feature_spec.label
    inputs = make_request(exports[key])
    beyond, edge = ({**inputs, "support_label": np.full_like(inputs["support_label"], v)}
                    for v in (label.maximum + 1e6, label.maximum))
    received = servables[key].run("adapt_and_score", beyond)
    np.testing.assert_array_equal(received["scores"], servables[key].run("adapt_and_score", edge)["scores"])
    assert not received["status"].any()


def test_merged_requests_answer_as_alone(exports, servables, key):
    requests = [make_request(exports[key], batch=1, width=2, query=3, seed=1),
                make_request(exports[key], batch=2, width=6, query=5, seed=2),
                make_request(exports[key], batch=1, width=1, query=1, length=0, seed=3)]
    merged = servables[key].run("adapt_and_score", merge(requests))
    start = 0
    for request in requests:
        alone = servables[key].run("adapt_and_score", request)
        size, query = alone["scores"].shape
        for name in ("scores", "base_scores"):
            np.testing.assert_allclose(merged[name][start:start + size, :query], alone[name], rtol=1e-5, atol=2e-6)
        np.testing.assert_array_equal(merged["status"][start:start + size], alone["status"])
        start += size
    assert len(merged["status"]) == 8 > start


def test_rows_do_not_depend_on_their_batch(exports, servables, key):
    inputs = make_request(exports[key], batch=4)
    together = servables[key].run("adapt_and_score", inputs)
    for i in range(4):
        alone = servables[key].run("adapt_and_score", rows(inputs, slice(i, i + 1)))
        np.testing.assert_allclose(alone["scores"], together["scores"][i:i + 1], rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("combination", combinations([c for c in COMBINATIONS if c[3] == "catalogue"]))
def test_unknown_items_are_content_free(exports, servables, combination):
    inputs, first = make_request(exports[combination]), None
    for unknown in (b"", b"nobody", "\u00e9".encode()):
        inputs["query_movie_id"][:, 0] = unknown
        outputs = servables[combination].run("score", without_support(inputs))
        assert not outputs["status"].any()
        first = outputs["scores"][:, 0] if first is None else first
        np.testing.assert_array_equal(outputs["scores"][:, 0], first)
