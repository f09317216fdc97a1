"""Adapted states that a client keeps."""

import json
import os

import numpy as np
import pytest
from export_cases import BOUND, combinations, make_items, make_recommender
from request_helpers import make_request, rows, without_support
from signature_requests import convert

CLOSE = {"rtol": 2e-5, "atol": 5e-6}


@pytest.fixture(params=combinations())
def key(request):
    return request.param


def described(exported):
    with open(os.path.join(exported.path, "assets.extra", "export.json"), encoding="utf-8") as file:
        return json.load(file)


def test_a_state_scores_as_adapting_does(exports, servables, key):
    inputs = make_request(exports[key], width=BOUND + 2, length=BOUND + 1, seed=7)
    whole = servables[key].run("adapt_and_score", inputs)
    kept = servables[key].run("adapt", convert("adapt", inputs, None))
    scored = servables[key].run("score_with_state", {**without_support(inputs), "user_state": kept["user_state"],
                                                     "state_model": kept["state_model"]})
    np.testing.assert_allclose(scored["scores"], whole["scores"], **CLOSE)
    assert np.abs(scored["scores"] - whole["base_scores"]).max() > 1e-3
    assert not kept["status"].any() and not scored["status"].any()


def test_a_state_serves_any_candidates(exports, servables, key):
    inputs = make_request(exports[key], query=4, seed=8)
    others = make_request(exports[key], query=7, seed=9)
    both = {k: others[k] if k.startswith("query_") else v for k, v in inputs.items()}
    asked = convert("score_with_state", inputs, servables[key])
    scored = servables[key].run("score_with_state", {**asked, **without_support(both)})
    np.testing.assert_allclose(scored["scores"], servables[key].run("adapt_and_score", both)["scores"], **CLOSE)


def test_the_state_of_an_empty_support_scores_exactly_as_score(exports, servables, key):
    """In a batch of any size, although products of another size may round differently."""
    inputs = make_request(exports[key], batch=4, seed=3)
    nothing_usable = {**inputs, "support_label": np.full_like(inputs["support_label"], np.nan)}
    for empty in ({**inputs, "support_length": np.zeros(4, np.int32)}, nothing_usable):
        asked = convert("score_with_state", empty, servables[key])
        for part in (slice(0, 4), slice(0, 1), slice(1, 3)):
            plain = servables[key].run("score", rows(without_support(inputs), part))["scores"]
            assert servables[key].run("score_with_state", rows(asked, part))["scores"].tobytes() == plain.tobytes()


def test_the_state_belongs_to_the_weights(exports, servables, key):
    document = described(exports[key])
    kept = servables[key].run("adapt", convert("adapt", make_request(exports[key]), None))
    assert set(kept["state_model"].tolist()) == {document["fingerprint"].encode()}
    assert kept["user_state"].dtype == np.float32
    width = document["state"]["width"]
    assert kept["user_state"].shape == (3, width)
    assert sum(int(np.prod(part["shape"])) for part in document["state"]["parts"]) == width
    assert document["signatures"]["score_with_state"]["inputs"]["user_state"]["shape"] == [None, width]
    assert document["signatures"]["adapt"]["outputs"]["user_state"] == {"dtype": "float32", "shape": [None, width]}


def test_the_state_is_the_fast_weights_in_the_order_of_their_names(exports, servables):
    """For two_tower with scope user_vector: the bias, then the vector, each row's own."""
    key = ("two_tower", "user_vector", "rating", "catalogue")
    exported = exports[key]
    assert [p["name"] for p in described(exported)["state"]["parts"]] == ["user_bias", "user_vector"]
    inputs = make_request(exported, seed=2)
    kept = servables[key].run("adapt", convert("adapt", inputs, None))["user_state"]
    items = {k: v for k, v in inputs.items() if k.startswith("query_")}
    flat = {k: v.reshape(-1) for k, v in items.items()}
    embedded = servables[key].run("embed_items", flat)["embedding"].reshape(3, 5, -1)
    spec, offset = exported.recommender.feature_spec.label, float(exported.recommender.model.offset)
    output = np.einsum("bqd,bd->bq", embedded[..., :-1], kept[:, 1:]) + embedded[..., -1] + kept[:, :1] + offset
    scored = servables[key].run("adapt_and_score", inputs)["scores"]
    np.testing.assert_allclose(output * spec.std + spec.mean, scored, rtol=1e-4, atol=1e-4)


def test_a_large_state_is_allowed_and_warned_about(tmp_path, monkeypatch, caplog):
    from export import exporter

    monkeypatch.setattr(exporter, "LARGE_STATE", 4)
    with caplog.at_level("WARNING", logger="export.exporter"):
        exporter.export_model(make_recommender(), items=make_items(), model_base=str(tmp_path / "m"), check=False)
    assert [r.message for r in caplog.records if "A user state of this model has 5 numbers" in r.message]


