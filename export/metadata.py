"""What lies beside the graph: export.json and the model card."""

import hashlib
import json

import numpy as np

from export.verify import versions
from tfmeta.models.recommender import Recommender

FORMAT = "tfmeta.export.v1"


def fingerprint(recommender: Recommender) -> str:
    """Returns a SHA-256 over weights, feature specification, model and learner."""
    digest = hashlib.sha256(json.dumps(recommender.get_config(), sort_keys=True).encode("utf-8"))
    for variable in sorted(recommender.variables, key=lambda v: v.path):
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


_ABOUT = {
    "user": ["Scores items for users; `adapt_and_score` first adapts the model to a user's own interactions, which the "
             "request carries. Nothing about a user is stored."],
    "item": ["Scores users for items: tasks are items. `adapt_and_score` first adapts the model to an item's own "
             "interactions, which the request carries. Nothing about an item is stored.", "",
             "Inputs named `user_...` carry the item whose task it is; `support_...` the users that interacted with it "
             "and `query_...` the users asked about. What is called item or catalogue below are users."],
}


def describe(recommender: Recommender, *, signatures: dict, item_features: str, support_bound: int,
             default_signature: str, catalogue_size: int | None, catalogue_sha256: str | None, run: dict) -> dict:
    """Returns the content of export.json.

    Args:
      recommender: as exported.
      signatures: key -> {"inputs": {name: {"dtype", "shape"}}, "outputs": the same}.
      item_features: `catalogue` or `request`.
      support_bound: support rows kept per task.
      default_signature: what `serving_default` is.
      catalogue_size, catalogue_sha256: items of the catalogue and the hash of their ids; None in mode `request`.
      run: `training_config` and `run` of a training run, and as `metrics` the file that holds its evaluation; each
        or all absent.
    """
    config = recommender.get_config()
    label = recommender.feature_spec.label
    return {"format": FORMAT, "fingerprint": fingerprint(recommender), "versions": versions(),
            "signatures": signatures, "default_signature": default_signature, "item_features": item_features,
            "catalogue": None if catalogue_size is None else {"items": catalogue_size, "sha256": catalogue_sha256},
            "support_bound": support_bound,
            "label": {"name": label.name, "unit": label.unit, "minimum": label.minimum, "maximum": label.maximum,
                      "threshold": label.threshold},
            "task_side": recommender.feature_spec.task_side,
            "feature_spec_fingerprint": recommender.feature_spec.fingerprint(),
            "model": config["model"], "learner": config["learner"], "seed": config["seed"], **run}


def model_card(metadata: dict) -> str:
    """Returns a brief model card in Markdown."""
    label, catalogue = metadata["label"], metadata["catalogue"]
    items = (f"a catalogue of {catalogue['items']} items inside the graph, a request carries ids; an unknown id is "
             "scored as an item without content" if catalogue else
             "their features travel with each request; an item that training never saw is scored by these alone")
    unit = {"rating": f"ratings from {label['minimum']:g} to {label['maximum']:g}, scores not clipped to them",
            "click": "clicks; scores are probabilities",
            "weight": "non-negative weights; scores are unbounded preferences"}[label["unit"]]
    lines = ["# Model card", "", *_ABOUT[metadata["task_side"]], "",
             f"- Model: `{metadata['model']['name']}`; learner: `{metadata['learner']['name']}`, scope "
             f"`{metadata['learner']['scope']}`",
             f"- Label `{label['name']}`: {unit}",
             f"- Items: {items}",
             f"- Support: the last {metadata['support_bound']} interactions of a request are used",
             f"- `serving_default` is `{metadata['default_signature']}`",
             f"- Fingerprint: `{metadata['fingerprint']}`",
             f"- Written with: {', '.join(f'{k} {v}' for k, v in metadata['versions'].items())}", "",
             "## Signatures", "", "| signature | part | name | dtype | shape |", "| --- | --- | --- | --- | --- |"]
    for key, signature in metadata["signatures"].items():
        for part in ("inputs", "outputs"):
            lines += [f"| `{key}` | {part[:-1]} | `{name}` | {info['dtype']} | {_shape(info['shape'])} |"
                      for name, info in signature[part].items()]
    lines += ["", "`status` is a bit set per row: 0 fine, 1 a non-finite label was dropped, 2 a non-finite feature was "
              "replaced, 8 a length outside 0 to the width was clamped.", "", "## Evaluation", ""]
    if metadata.get("metrics"):
        lines += ["`evaluation.json` holds the evaluation of the run at export."]
    else:
        lines += ["The run had not been evaluated at export; `tfmeta evaluate` does it."]
    return "\n".join(lines) + "\n"


def _shape(shape: list) -> str:
    return "[" + ", ".join("any" if s is None else str(s) for s in shape) + "]"
