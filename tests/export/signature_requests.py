"""Requests of every signature, made from one of `adapt_and_score`, and what spoils them."""

import numpy as np
from export_cases import BOUND
from request_helpers import make_request

PREDICT = ("score", "adapt_and_score", "adapt", "score_with_state", "embed_items", "score_examples",
           "adapt_and_score_examples", "explain", "recommend", "adapt_and_recommend")
WITH_SUPPORT = ("adapt_and_score", "adapt", "adapt_and_score_examples", "explain", "adapt_and_recommend")
# Only of models with an index, and a catalogue in the graph.
LISTS = ("recommend", "adapt_and_recommend")


def convert(signature, inputs, servable):
    """Returns the request of a signature that says what a request of `adapt_and_score` says."""
    if signature.endswith("_examples"):
        return {"examples": to_examples(inputs, support=signature.startswith("adapt"))}
    query = {k: v for k, v in inputs.items() if not k.startswith("support_")}
    if signature == "score_with_state":
        kept = servable.run("adapt", convert("adapt", inputs, servable))
        return {**query, "user_state": kept["user_state"], "state_model": kept["state_model"]}
    if signature == "embed_items":
        return {k: v[:, 0] for k, v in query.items() if k.startswith("query_")}
    if signature in LISTS:
        # The candidates are left out, as many as there are support rows; a length out of range stays so.
        length, width = inputs["support_length"], inputs["query_movie_id"].shape[1]
        inside = (length >= 0) & (length <= inputs["support_label"].shape[1])
        kept = {k: v for k, v in inputs.items() if k.startswith("user_") or (
            k.startswith("support_") and signature.startswith("adapt"))}
        return {**kept, "exclude_item": inputs["query_movie_id"],
                "exclude_length": np.where(inside, np.minimum(length, width), length).astype(np.int32)}
    return {"score": query, "adapt_and_score": inputs, "explain": inputs,
            "adapt": {k: v for k, v in inputs.items() if not k.startswith("query_")}}[signature]


def to_examples(inputs, *, support):
    """Serialises each row as a flat tf.Example; of the support the rows within its length."""
    import tensorflow as tf

    examples = np.empty(len(inputs["support_length"]), object)
    for row in range(len(examples)):
        example = tf.train.Example()
        for name, value in inputs.items():
            if name == "support_length" or (name.startswith("support_") and not support):
                continue
            value = value[row]
            if name.startswith("support_"):
                value = value[:max(int(inputs["support_length"][row]), 0)]
            write_list(example, name, value)
        examples[row] = example.SerializeToString()
    return examples


def write_list(example, name, value):
    feature = example.features.feature[name]
    flat = np.array([value], object) if isinstance(value, bytes) else np.ravel(value)
    if flat.dtype == object:
        feature.bytes_list.value.extend(flat.tolist())
    elif flat.dtype.kind == "f":
        feature.float_list.value.extend(flat.tolist())
    else:
        feature.int64_list.value.extend(flat.tolist())


def _labels(inputs):
    inputs["support_label"][:] = np.resize([np.nan, np.inf, -np.inf], inputs["support_label"].shape)


def _extreme(inputs):
    inputs["support_label"][:] = np.resize(np.array([1e38, -1e38, 1e-45, -1e-45, 0], np.float32),
                                           inputs["support_label"].shape)


def _features(inputs):
    inputs["user_age"][:] = np.inf
    for name, value in inputs.items():
        if value.dtype.kind == "f" and name not in ("user_age", "support_label"):
            value.ravel()[:] = np.resize([np.nan, 1e38, -np.inf, -1e38, 1e-45], value.size)


def _length(inputs):
    inputs["support_length"][:] = 2**31 - 1


def _negative(inputs):
    inputs["support_length"][:] = -2**31


def _unknown(inputs):
    odd = np.array([b"nobody knows", b"", b"\xff\xfe", "\u00e9\u0000".encode()], object)
    for value in inputs.values():
        if value.dtype == object:
            value.ravel()[:] = np.resize(odd, value.size)


def _duplicates(inputs):
    for name, value in inputs.items():
        if name.startswith("support_") and value.ndim > 1:
            value[:] = value[:, :1]


# What is wrong with a request -> (how, status by signatures that read a support, status by the others).
SPOILT = {"labels": (_labels, 1, 0), "extreme labels": (_extreme, 0, 0), "features": (_features, 2, 2),
          "length": (_length, 8, 0), "negative length": (_negative, 8, 0), "unknown": (_unknown, 0, 0),
          "duplicates": (_duplicates, 0, 0)}


def spoilt_request(exported, kind, *, seed=0, **shape):
    inputs = {k: v.copy() for k, v in make_request(exported, seed=seed, **shape).items()}
    SPOILT[kind][0](inputs)
    return inputs


def good_requests(exported):
    """Requests of strangers: of different widths, one without a support, one with more than the bound."""
    return [make_request(exported, batch=1, width=2, query=3, length=2, seed=1),
            make_request(exported, batch=2, width=6, query=5, seed=2),
            make_request(exported, batch=1, width=1, query=1, length=0, seed=3),
            make_request(exported, batch=1, width=BOUND + 4, query=2, length=BOUND + 3, seed=4)]
