"""What export.json says of a model."""

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
            "score_unit": recommender.learner.score_unit,
            "task_side": recommender.feature_spec.task_side,
            "feature_spec_fingerprint": recommender.feature_spec.fingerprint(),
            "model": config["model"], "learner": config["learner"], "seed": config["seed"], **run}
