"""What `tfmeta request` prints."""

import base64
import json
from typing import Any

import numpy as np

from tfmeta.serving.client.errors import describe_status
from tfmeta.serving.client.explanation import Explanation
from tfmeta.serving.client.model_description import ModelDescription
from tfmeta.serving.client.scores import Scores
from tfmeta.serving.client.user_state import UserState


def print_report(method: str, model: str, result: Any, *, as_json: bool, top: int) -> None:
    """Prints a client's result: one JSON object, or tables with the best first.

    Args:
      method: the client's method.
      model: name of the model.
      result: what the method returned.
      as_json: as JSON.
      top: rows of each table.
    """
    if as_json:
        if method == "versions":
            content: dict = {"versions": result}
        elif method == "describe":
            content = _description(result)
        else:
            rows = result if isinstance(result, list) else [result]
            content = {"version": rows[0].version if rows else None, "results": [_to_json(r) for r in rows]}
        print(json.dumps({"model": model, "method": method, **content}))
    elif method == "versions":
        print(f"{model}: {', '.join(map(str, result)) or 'no version is available'}")
    elif method == "describe":
        print(_describe(result))
    else:
        rows = result if isinstance(result, list) else [result]
        for number, row in enumerate(rows):
            if isinstance(result, list):
                print(f"{'' if number == 0 else chr(10)}user {number}")
            print("\n".join(_lines(row, top)))


def _to_json(result: Any) -> dict[str, Any]:
    if isinstance(result, UserState):
        return {"state": base64.b64encode(result.to_bytes()).decode("ascii"), "numbers": len(result.state),
                "state_model": _text(result.model), "status": result.status}
    row = {}
    for name, value in vars(result).items():
        if isinstance(value, np.ndarray):
            # JSON has no infinity; every digit of a float32 is kept.
            row[name] = [_text(v) for v in value.tolist()] if value.dtype == object else _finite(value.tolist())
        elif name != "version" and value is not None:
            row[name] = value
    return row


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value if not isinstance(value, float) or np.isfinite(value) else None


def _lines(result: Any, top: int) -> list[str]:
    notes = [f"note: {describe_status(result.status)}"] if result.status else []
    if isinstance(result, UserState):
        return [f"{len(result.state)} numbers for model {_text(result.model)}; --json prints them for later requests",
                *notes]
    # `recommend` comes in its own order.
    order = np.argsort(-result.scores, kind="stable") if isinstance(result, Scores | Explanation) else np.arange(
        len(result.items))
    base = getattr(result, "base_scores", None)
    columns = [["rank", *(str(i + 1) for i in range(len(order)))],
               ["item", *(str(_text(v)) for v in result.items[order].tolist())],
               ["score", *(f"{v:.4f}" for v in result.scores[order])]]
    if base is not None:
        columns.append(["unadapted", *(f"{v:.4f}" for v in base[order])])
    if isinstance(result, Explanation):
        columns += [[str(_text(item)), *(f"{v:+.4f}" for v in result.influence[order, s])]
                    for s, item in enumerate(result.support.tolist())]
    shown = [column[:top + 1] for column in columns]
    widths = [max(map(len, column)) for column in shown]
    lines = ["  ".join(cell.ljust(width) if column is shown[1] else cell.rjust(width)
                       for cell, width, column in zip(row, widths, shown, strict=True)).rstrip()
             for row in zip(*shown, strict=True)]
    if len(order) > top:
        lines.append(f"... and {len(order) - top} more")
    return lines + notes


def _description(description: ModelDescription) -> dict[str, Any]:
    spec = description.feature_spec
    return {"version": description.version, "fingerprint": description.fingerprint,
            "item_features": "catalogue" if description.by_id else "request",
            "support_bound": description.support_bound, "signatures": sorted(description.signatures),
            "label": {"name": spec.label.name, "unit": spec.label.unit, "minimum": spec.label.minimum,
                      "maximum": spec.label.maximum},
            "user": [_feature(f) for f in spec.user_features], "item": [_feature(f) for f in description.item_features]}


def _feature(feature) -> dict[str, Any]:
    return {"name": feature.name, "kind": feature.kind, "dtype": feature.dtype} | (
        {} if feature.length is None else {"length": feature.length})


def _describe(description: ModelDescription) -> str:
    content = _description(description)
    label = content["label"]

    def features(side: str) -> str:
        return ", ".join(f"{f['name']} ({f['kind']}{'' if 'length' not in f else ' of ' + str(f['length'])})"
                         for f in content[side]) or "none"

    return "\n".join([
        f"model          {description.model} version {content['version']}",
        f"fingerprint    {content['fingerprint']}",
        f"label          {label['name']}: {label['unit']} from {label['minimum']:g} to {label['maximum']:g}",
        f"user           {features('user')}",
        f"item           {features('item')}",
        f"support        the last {content['support_bound']} interactions count",
        f"signatures     {', '.join(content['signatures'])}"])


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
