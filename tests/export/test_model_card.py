"""The model card: valid by its schema, and honest."""

import json
import os

import jsonschema
import pytest
from export_cases import COMBINATIONS, make_spec

import export
from export import model_card, model_card_text

EXPORT = {
    "fingerprint": "ab" * 32, "versions": {"tfmeta": "0.1.0"}, "default_signature": "score",
    "item_features": "catalogue", "catalogue": {"items": 12, "sha256": "x"}, "support_bound": 100, "task_side": "user",
    "model": {"name": "two_tower"}, "learner": {"name": "ridge", "scope": "user_vector"}, "label": {"unit": "rating"},
    "score_unit": "rating",
    "training_config": {"sampler": {"query_size": 10, "max_interactions": 60, "support_size": None}},
    "signatures": {key: {"inputs": {"query_id": {"dtype": "string", "shape": [None, None]}},
                         "outputs": {"scores": {"dtype": "float32", "shape": [None, None]}}}
                   for key in ("serving_default", "score")}}
DATA = {"dataset": "ml-1m", "features": "full", "rows": {"train": 1234567}, "users": {"in_training": 6040},
        "items": {"in_training": 3706}, "tasks": {"test": {"user_cold": {"tasks": 6680, "users": 668, "splits": 10,
                                                                          "support": [3, 90]}}}}


@pytest.fixture(scope="module")
def schema():
    path = os.path.join(os.path.dirname(export.__file__), "model_card.schema.json")
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def rows(adapted=0.74, *, state="user_cold"):
    def row(model, role, k, value, **more):
        return {"state": state, "model": model, "role": role, "k": k, "seed": "mean", "metric": "auc", "value": value,
                "low": value - 0.01, "high": value + 0.01, "p_value": None, "users": 668,
                "selected": role == "learner", "uses_history": False, **more}

    return [row("chance", "floor", "all", 0.5), row("perfect_order", "ceiling", "all", 1.0),
            row("damped_bias", "reference", "all", 0.70), row("als_fold_in", "reference", "all", 0.73),
            row("ridge", "learner", 0, 0.71), row("ridge", "learner", "all", adapted, p_value=0.002),
            row("ridge_history", "learner", "all", 0.99, uses_history=True, selected=False),
            {**row("ridge", "learner", "all", adapted - 0.71), "metric": "gain_auc"}]


def evaluation(*parts):
    return {"environment": {"date": "2026-11-22T03:38:43+00:00", "commit": "7eaf3c"},
            "rows": [r for part in parts for r in part]}


def build(schema, evaluated=None, data=DATA, **changes):
    card = model_card.build_card({**EXPORT, **changes}, feature_spec=make_spec(), evaluation=evaluated, data=data)
    schema.validate(card)
    schema.validate(json.loads(json.dumps(card, allow_nan=False)))
    return card, model_card_text.to_markdown(card)


def test_metrics_stand_beside_floor_baseline_and_ceiling(schema):
    card, text = build(schema, evaluation(rows(), rows(0.76, state="item_cold")))
    assert card["evaluation"]["states"] == ["user_cold", "item_cold"]
    first = card["evaluation"]["metrics"][0]
    assert (first["chance"], first["unadapted"], first["adapted"], first["ceiling"]) == (0.5, 0.71, 0.74, 1.0)
    assert first["strongest_baseline"] == {"model": "als_fold_in", "value": 0.73}
    assert first["gain"]["value"] == pytest.approx(0.03) and first["p_value"] == 0.002
    assert {m["model"] for m in card["evaluation"]["metrics"]} == {"ridge"}
    assert card["evaluation"]["gate"] == {"passed": True, "baseline": "damped_bias", "reasons": []}
    assert ("| user-cold (668) | AUC | 0.500 | 0.730 `als_fold_in` | 0.710 | **0.740** (0.730 to 0.750) | +0.030 "
            "| 1.000 |") in text
    assert "It passes the gate" in text and "2026-11-22" in text


@pytest.mark.parametrize(("adapted", "losses"), [
    (0.74, []), (0.73, ["ALS fold-in (0.7300)"]), (0.71, ["ALS fold-in (0.7300)", "its unadapted self (0.7100)"]),
    (0.49, ["ALS fold-in (0.7300)", "its unadapted self (0.7100)", "random scores (0.5000)"])])
def test_what_it_does_not_win_is_a_limit(schema, adapted, losses):
    card, text = build(schema, evaluation(rows(adapted)))
    said = [line for line in card["limits"] if line.startswith("user-cold AUC")]
    assert sorted(said) == sorted(f"user-cold AUC: {adapted:.4f}, no better than {name}." for name in losses)
    assert all(line in text for line in said)
    assert card["evaluation"]["gate"]["passed"] is (adapted > 0.71)
    assert ("does not pass the gate" in text) is (adapted <= 0.71)
    assert "Not evaluated in the states warm, item-cold, both-cold." in card["limits"]


def test_without_an_evaluation_nothing_is_claimed(schema):
    card, text = build(schema)
    assert card["evaluation"]["evaluated"] is False and card["evaluation"]["metrics"] == []
    assert card["evaluation"]["gate"]["passed"] is None
    assert any("not known" in line for line in card["limits"])
    assert "had not been evaluated at export" in text


def test_an_evaluation_that_the_gate_cannot_judge(schema):
    some = [r for r in rows() if r["model"] != "damped_bias"]
    card, text = build(schema, evaluation(some))
    assert card["evaluation"]["gate"]["passed"] is None and "bias baseline" in card["evaluation"]["gate"]["reasons"][0]
    assert "could not be judged by the gate" in text


def test_data(schema):
    card, text = build(schema)
    assert card["data"]["training_interactions"] == 1234567
    assert card["data"]["test_states"] == [{"state": "user_cold", "tasks": 6680, "owners": 668, "support": [3, 90]}]
    assert "Data set: `ml-1m`" in text and "1,234,567 interactions, 6,040 users, 3,706 items" in text
    assert [f["name"] for f in card["data"]["features"]][:3] == ["zip-code", "age", "movie_id"]
    assert "training saw supports of at most 50" in " ".join(card["limits"])
    card, text = build(schema, data={**DATA, "dataset": "synthetic"})
    assert card["data"]["synthetic"] and "say nothing about real users" in text
    # Another program's prepared directory, or a model that was never trained by a run.
    card, text = build(schema, data={"train": 3}, training_config=None)
    assert card["data"]["dataset"] is None and "Data set: not recorded" in text


@pytest.mark.parametrize("change", [
    {"task_side": "item"}, {"catalogue": None, "item_features": "request"}, {"learner": {"name": "lwa"}}])
def test_other_models(schema, change):
    _, text = build(schema, evaluation(rows()), **change)
    assert ("tasks are items" in text) is (change.get("task_side") == "item")
    assert ("travel with each request" in text) is ("catalogue" in change)


def test_the_schema_refuses_what_is_no_card(schema):
    card, _ = build(schema, evaluation(rows()))
    for damage in ({"format": "v0"}, {"limits": []}, {"more": 1},
                   {"evaluation": {**card["evaluation"], "metrics": []}},
                   {"evaluation": {**card["evaluation"], "evaluated": False}},
                   {"data": {**card["data"], "label": {**card["data"]["label"], "unit": "stars"}}}):
        with pytest.raises(jsonschema.ValidationError):
            schema.validate({**card, **damage})
    for part in list(card):
        with pytest.raises(jsonschema.ValidationError):
            schema.validate({k: v for k, v in card.items() if k != part})


def test_exports_have_valid_cards(exports, schema):
    for key in COMBINATIONS[:2]:
        extras = os.path.join(exports[key].path, "assets.extra")
        with open(os.path.join(extras, model_card.FILE), encoding="utf-8") as file:
            card = json.load(file)
        schema.validate(card)
        with open(os.path.join(extras, model_card_text.FILE), encoding="utf-8") as file:
            assert file.read() == model_card_text.to_markdown(card)
        with open(os.path.join(extras, "export.json"), encoding="utf-8") as file:
            described = json.load(file)
        assert card["model"]["fingerprint"] == described["fingerprint"]
        assert card["interface"]["signatures"] == described["signatures"]
