"""The model card: what a model is, what it was measured to do, and what it must not be used for.

`MODEL_CARD.json` has the schema `model_card.schema.json` of this package; `model_card_text` makes Markdown of it.
Format after Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. Whatever was not measured is said to be so.
"""

from collections.abc import Mapping
from typing import Any

from export import gate
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.task_set import STATES
from tfmeta.errors import ExportError
from tfmeta.metrics import lower_is_better
from trainer.evaluation.positives_only import METRICS as POSITIVES_METRICS
from trainer.report.result_rows import ResultRows
from trainer.report.words import metric_name, model_name, state_name

FORMAT = "tfmeta.model_card.v1"
FILE = "MODEL_CARD.json"
METRICS = ("auc", "ndcg@5", "mae", "rmse", "logloss", *POSITIVES_METRICS)
STATUS_BITS = (
    (1, "a non-finite label was dropped"), (2, "a non-finite feature was replaced, or a state's scores were"),
    (4, "the state belongs to another model; the row has unadapted scores"),
    (8, "a length outside 0 to the width was clamped"))
_SAID_BY = {"user": "a user", "item": "an item"}


def build_card(export: Mapping[str, Any], *, feature_spec: FeatureSpec, evaluation: Mapping[str, Any] | None = None,
               data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns the card, JSON-able.

    Args:
      export: the content of export.json.
      feature_spec: of the data.
      evaluation: the content of evaluation.json, where the run was evaluated.
      data: the prepared directory's summary (`PreparedData.summary`), where it is known.
    """
    table = ResultRows.of([r for r in (evaluation or {}).get("rows", ()) if not r.get("uses_history")])
    metrics, judged = _metrics(table), _gate(evaluation)
    data = _data(data or {}, feature_spec)
    side = export["task_side"]
    return {
        "format": FORMAT,
        "model": {"name": export["model"]["name"], "learner": export["learner"]["name"],
                  "scope": export["learner"].get("scope"), "task_side": side, "fingerprint": export["fingerprint"],
                  "versions": export["versions"]},
        "interface": {"default_signature": export["default_signature"], "item_features": export["item_features"],
                      "catalogue_items": (export["catalogue"] or {}).get("items"),
                      "support_bound": export["support_bound"], "signatures": export["signatures"],
                      "status_bits": [{"bit": bit, "meaning": text} for bit, text in STATUS_BITS]},
        "data": data,
        "evaluation": {"evaluated": bool(metrics), "date": _head(evaluation, "date"),
                       "commit": _head(evaluation, "commit"), "states": table.states, "metrics": metrics,
                       "gate": judged},
        "intended_use": _intended(side, export["score_unit"]),
        "not_intended": [
            "Decisions about people other than what to show or recommend to them.",
            "Comparing scores of different models or versions as if they had one scale."],
        "limits": _limits(export, data, metrics, table.states, feature_spec),
    }


def _head(evaluation: Mapping[str, Any] | None, key: str) -> str | None:
    return ((evaluation or {}).get("environment") or {}).get(key)


def _data(summary: Mapping[str, Any], spec: FeatureSpec) -> dict[str, Any]:
    label = spec.label
    tasks = (summary.get("tasks") or {}).get("test") or {}
    owners = f"{spec.task_side}s"
    return {
        "dataset": summary.get("dataset"), "synthetic": summary.get("dataset") == "synthetic",
        "features_read": summary.get("features"),
        "training_interactions": (summary.get("rows") or {}).get("train"),
        "training_users": (summary.get("users") or {}).get("in_training"),
        "training_items": (summary.get("items") or {}).get("in_training"),
        "test_states": [{"state": state, "tasks": tasks[state]["tasks"], "owners": tasks[state].get(owners),
                         "support": tasks[state].get("support")} for state in STATES if state in tasks],
        "label": {"name": label.name, "unit": label.unit, "minimum": label.minimum, "maximum": label.maximum,
                  "threshold": label.threshold},
        "features": [{"side": side, "name": f.name, "kind": f.kind, "dtype": f.dtype}
                     for side, features in (("user", spec.user_features), ("item", (spec.item_id, *spec.item_features)))
                     for f in features],
    }


def _metrics(table: ResultRows) -> list[dict[str, Any]]:
    """Per state, learner and metric: the chance floor, the strongest baseline, the model unadapted and adapted."""
    made = []
    for state in table.states:
        learners = table.models(state, "learner")
        chosen = [m for m in learners if any(r.get("selected") for r in table.select(state=state, model=m))]
        for model in chosen or learners:
            for metric in METRICS:
                curve = table.curve(state, model, metric)
                if not curve:
                    continue
                best, gain = table.best(state, "reference", metric), table.gain(state, model, metric)
                adapted, floor = curve[-1], table.best(state, "floor", metric)
                ceiling = table.last(state, "perfect_order", metric)
                made.append({
                    "state": state, "model": model, "metric": metric,
                    "better": "lower" if lower_is_better(metric) else "higher", "k": str(adapted["k"]),
                    "users": adapted.get("users"), "chance": _value(floor), "ceiling": _value(ceiling),
                    "strongest_baseline": None if best is None else {"model": best["model"], "value": best["value"]},
                    "unadapted": _value(curve[0]) if str(curve[0]["k"]) == "0" else None,
                    "adapted": adapted["value"], "low": adapted.get("low"), "high": adapted.get("high"),
                    "p_value": adapted.get("p_value"),
                    "gain": None if gain is None else {k: gain.get(k) for k in ("value", "low", "high")}})
    return made


def _value(row: dict[str, Any] | None) -> float | None:
    return None if row is None else row["value"]


def _gate(evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    if not evaluation:
        return {"passed": None, "baseline": None, "reasons": ["the run had not been evaluated at export"]}
    try:
        result = gate.check(evaluation)
    except ExportError as error:
        return {"passed": None, "baseline": None, "reasons": [str(error)]}
    return {"passed": result.passed, "baseline": result.baseline, "reasons": list(result.reasons)}


def _intended(side: str, unit: str) -> list[str]:
    owner, others = ("a user", "items") if side == "user" else ("an item", "users")
    meaning = {"rating": "the rating to expect", "probability": "the probability of a click",
               "preference": "a preference without unit, which orders"}[unit]
    return [f"Ranking {others} for {owner} that training need not have seen, from the interactions in the request: a "
            f"score is {meaning}.",
            f"Adapting inside one request; nothing about {owner} is stored by the server."]


def _limits(export: Mapping[str, Any], data: dict[str, Any], metrics: list[dict[str, Any]], states: list[str],
            spec: FeatureSpec) -> list[str]:
    label = data["label"]
    lines = [f"Of a request's interactions the last {export['support_bound']} are used"
             + (f"; training saw supports of at most {width}." if (width := _trained_width(export)) else ".")]
    if export["catalogue"]:
        lines.append("Items that the exported catalogue does not hold are scored as items without content.")
    if label["unit"] == "rating":
        lines.append(f"Scores are not clipped to {label['minimum']:g} to {label['maximum']:g}.")
    if export["score_unit"] == "probability":
        lines.append("Whether probabilities are calibrated was not measured.")
    if data["synthetic"]:
        lines.append("Trained and evaluated on synthetic data: the figures say nothing about real users.")
    if not metrics:
        lines.append("How good its scores are is not known: the run had not been evaluated at export.")
    else:
        missing = [state_name(s) for s in STATES if s not in states]
        if missing:
            lines.append(f"Not evaluated in the states {', '.join(missing)}.")
        lines += [line for row in metrics for line in _losses(row)]
    lines.append("Whether it serves groups of users equally well was not measured.")
    lines.append(f"A `user_state` that a client keeps is derived from the interactions of {_SAID_BY[spec.task_side]}"
                 + (" and is personal data." if spec.task_side == "user" else "."))
    return lines


def _trained_width(export: Mapping[str, Any]) -> int | None:
    sampler = (export.get("training_config") or {}).get("sampler") or {}
    bounds = [sampler["support_size"][1]] if sampler.get("support_size") else []
    if sampler.get("max_interactions") and sampler.get("query_size"):
        bounds.append(sampler["max_interactions"] - sampler["query_size"])
    return min(bounds) if bounds else None


def _losses(row: dict[str, Any]) -> list[str]:
    """What the model does not win, in one state and metric."""
    sign = -1 if row["better"] == "lower" else 1
    where = f"{state_name(row['state'])} {metric_name(row['metric'])}"
    others = {"its unadapted self": row["unadapted"], "random scores": row["chance"]}
    if row["strongest_baseline"]:
        others[model_name(row["strongest_baseline"]["model"])] = row["strongest_baseline"]["value"]
    return [f"{where}: {row['adapted']:.4f}, no better than {name} ({value:.4f})."
            for name, value in others.items() if value is not None and sign * (row["adapted"] - value) <= 0]
