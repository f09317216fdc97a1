"""The model card as Markdown, for people."""

from collections.abc import Mapping
from typing import Any

from trainer.report.words import metric_name, state_name

FILE = "MODEL_CARD.md"


def to_markdown(card: Mapping[str, Any]) -> str:
    """Returns the card as Markdown."""
    model, interface, data, evaluation = (card[k] for k in ("model", "interface", "data", "evaluation"))
    lines = ["# Model card", "", *_about(model["task_side"]), "",
             f"- Model: `{model['name']}`; learner: `{model['learner']}`"
             + (f", scope `{model['scope']}`" if model["scope"] else ""),
             f"- Fingerprint: `{model['fingerprint']}`",
             f"- Written with: {', '.join(f'{k} {v}' for k, v in model['versions'].items())}", "",
             "## Intended use", "", *_list(card["intended_use"]), "",
             "Not intended:", "", *_list(card["not_intended"]), "", "## Limits", "", *_list(card["limits"]), "",
             "## Data", "", *_data_lines(data), "", "## Evaluation", "", *_evaluation_lines(evaluation, model), "",
             "## Interface", "", *_interface_lines(interface)]
    return "\n".join(lines) + "\n"


def _about(side: str) -> list[str]:
    if side == "user":
        return ["Scores items for users; `adapt_and_score` first adapts the model to a user's own interactions, which "
                "the request carries. Nothing about a user is stored."]
    return ["Scores users for items: tasks are items. `adapt_and_score` first adapts the model to an item's own "
            "interactions, which the request carries. Nothing about an item is stored.", "",
            "Inputs named `user_...` carry the item whose task it is; `support_...` the users that interacted with it "
            "and `query_...` the users asked about. What is called item or catalogue below are users."]


def _list(lines: list[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _data_lines(data: Mapping[str, Any]) -> list[str]:
    label = data["label"]
    unit = {"rating": f"ratings from {label['minimum']:g} to {label['maximum']:g}, relevant from "
                      f"{label['threshold']:g}",
            "click": "clicks",
            "weight": "non-negative weights"}[label["unit"]]
    name = "not recorded" if data["dataset"] is None else f"`{data['dataset']}`"
    lines = [f"- Data set: {name}{' (synthetic)' if data['synthetic'] else ''}", f"- Label `{label['name']}`: {unit}"]
    counts = {key: data[f"training_{key}"] for key in ("interactions", "users", "items")}
    if any(v is not None for v in counts.values()):
        lines.append("- Training: " + ", ".join(f"{v:,} {k}" for k, v in counts.items() if v is not None))
    for row in data["test_states"]:
        support = "" if not row["support"] else f", support of {row['support'][0]} to {row['support'][1]} rows"
        lines.append(f"- Test, {state_name(row['state'])}: {row['tasks']:,} tasks{support}")
    features = ", ".join(f"`{f['name']}` ({f['side']}, {f['kind'].replace('_', ' ')})" for f in data["features"])
    return [*lines, f"- Features: {features}"]


def _evaluation_lines(evaluation: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    if not evaluation["evaluated"]:
        return ["The run had not been evaluated at export; `tfmeta evaluate` does it."]
    owners = f"{model['task_side']}s"
    lines = [f"Of {evaluation['date'] or 'unknown date'}; all rows are in `evaluation.json`. Adapted means with the "
             "most support evaluated, in brackets the 95 % interval.", "",
             f"| state ({owners}) | metric | chance | strongest baseline | unadapted | adapted | gain from adaptation "
             "| ceiling |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in evaluation["metrics"]:
        best = row["strongest_baseline"]
        baseline = "" if best is None else f"{best['value']:.3f} `{best['model']}`"
        users = "" if row["users"] is None else f" ({row['users']:,})"
        interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
        gain = "" if row["gain"] is None else f"{row['gain']['value']:+.3f}"
        lines.append(f"| {state_name(row['state'])}{users} | {metric_name(row['metric'])} | {_number(row['chance'])} | "
                     f"{baseline} | {_number(row['unadapted'])} | **{row['adapted']:.3f}**{interval} | {gain} | "
                     f"{_number(row['ceiling'])} |")
    judged = evaluation["gate"]
    if judged["passed"]:
        lines += ["", f"It passes the gate: better than unadapted and than `{judged['baseline']}` in every state."]
    else:
        said = "does not pass the gate" if judged["passed"] is False else "could not be judged by the gate"
        lines += ["", f"It {said}:", "", *_list(judged["reasons"])]
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interface_lines(interface: Mapping[str, Any]) -> list[str]:
    count = interface["catalogue_items"]
    items = (f"a catalogue of {count:,} items inside the graph, a request carries ids; an unknown id is scored as an "
             "item without content" if count is not None else
             "their features travel with each request; an item that training never saw is scored by these alone")
    lines = [f"- Items: {items}",
             f"- Support: the last {interface['support_bound']} interactions of a request are used",
             f"- `serving_default` is `{interface['default_signature']}`", "",
             "| signature | part | name | dtype | shape |", "| --- | --- | --- | --- | --- |"]
    for key, signature in interface["signatures"].items():
        for part in ("inputs", "outputs"):
            lines += [f"| `{key}` | {part[:-1]} | `{name}` | {info['dtype']} | {_shape(info['shape'])} |"
                      for name, info in signature[part].items()]
    return [*lines, "", "`status` is a bit set per row, 0 is fine:", "",
            *_list([f"{s['bit']}: {s['meaning']}" for s in interface["status_bits"]])]


def _shape(shape: list) -> str:
    return "[" + ", ".join("any" if s is None else str(s) for s in shape) + "]"
