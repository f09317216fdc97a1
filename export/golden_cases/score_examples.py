"""Golden cases of `score_examples`."""

import numpy as np
import tensorflow as tf

from export.golden import GoldenCase
from export.golden_requests import GoldenRequests, Request
from export.signatures import status
from export.signatures.example_parser import absent
from tfmeta.serving.input_names import input_name

_READ = ("user", "query")


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    request, queries, examples = draw(requests)
    encoded = requests.encode(request)
    scores = requests.recommender.score(encoded.user, encoded.query).numpy()
    bits = encoded.status(*_READ)
    made = [GoldenCase("candidates of every number", "score_examples",
                       {"examples": to_bytes(requests, examples, *_READ)},
                       {"scores": scores, "query_length": queries, "status": bits})]
    # Without its last value an id list says that there is one candidate less; other lists then do not fit.
    cut = [{name: [*values][:-1] if name == ("query", requests.spec.item_id.name) else values
            for name, values in example.items()} for example in examples[:1]]
    others = len(requests.request_features) > 1
    width = queries[0] - 1
    made.append(GoldenCase(
        "an id list that is too short", "score_examples", {"examples": to_bytes(requests, cut, *_READ)},
        {"scores": scores[:1, :width], "query_length": queries[:1] - 1,
         "status": bits[:1] | (status.LENGTH_CLAMPED if others else 0)}))
    return made


def draw(requests: GoldenRequests) -> tuple[Request, np.ndarray, list[dict]]:
    """Returns a request, the candidates of each task `[B]`, and its tasks as (side, feature) -> values.

    Beyond its candidates a task has items of missing values; the last task's lists of the query are all absent, its
    user's too.
    """
    request = requests.draw(batch=4, width=6, query=5, length=[6, 1, 0, 4])
    queries = np.array([5, 2, 3, 0], np.int32)
    # A value that is not finite would be replaced in either case; here the status says so for all rows alike.
    features = {f.name: f for f in (*requests.spec.user_features, requests.spec.item_id, *requests.spec.item_features)}
    for name, value in request.user.items():
        value[3] = absent(features[name]).tolist()
    for value in (*request.query.values(), *request.support.values()):
        if value.dtype.kind == "f":
            value[~np.isfinite(value)] = 0.0
    for name, value in request.query.items():
        value[np.arange(5)[None] >= queries[:, None]] = absent(features[name]).tolist()
    examples = []
    for task in range(4):
        example = {("user", name): [] if task == 3 else np.ravel(value[task]) for name, value in request.user.items()}
        for side, length in (("query", queries[task]), ("support", request.length[task])):
            for name, value in getattr(request, side).items():
                example[side, name] = np.ravel(value[task, :length])
        example["support", "label"] = request.label[task, :request.length[task]]
        examples.append(example)
    return request, queries, examples


def to_bytes(requests: GoldenRequests, examples: list[dict], *parts: str) -> np.ndarray:
    """Serialises tasks as tf.Example, with the inputs that a signature of these parts has; empty lists are left out."""
    carried = {"user": {f.name for f in requests.spec.user_features},
               "query": {f.name for f in requests.request_features},
               "support": {f.name for f in requests.request_features} | {"label"}}
    serialised = np.empty(len(examples), object)
    for position, values in enumerate(examples):
        example = tf.train.Example()
        for (side, name), column in values.items():
            if side in parts and name in carried[side] and len(column):
                _write(example.features.feature[input_name(side, name)], np.asarray(column))
        serialised[position] = example.SerializeToString(deterministic=True)
    return serialised


def _write(feature: tf.train.Feature, column: np.ndarray) -> None:
    if column.dtype.kind == "f":
        feature.float_list.value.extend(column.tolist())
    elif column.dtype.kind == "i":
        feature.int64_list.value.extend(column.tolist())
    else:
        feature.bytes_list.value.extend(v.encode("utf-8") for v in column.tolist())
