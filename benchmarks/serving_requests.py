"""The requests of `benchmarks.serving`: one user, 20 support rows, 100 candidates. Needs NumPy and gRPC alone."""

import functools

import numpy as np

SUPPORT, CANDIDATES, NUM_ITEMS = 20, 100, 4_000
DISTINCT = 16
_CANDIDATES = ("score", "adapt_and_score", "score_with_state", "explain")
_SUPPORT = ("adapt", "adapt_and_score", "adapt_and_recommend", "explain")
_EXAMPLES = "_examples"


@functools.cache
def arrays(signature: str, states: str | None = None) -> tuple[dict[str, np.ndarray], ...]:
    """Returns different requests to a signature, all of the same shapes.

    Args:
      signature: any that an export can have but `metadata`; `embed_items` is asked for one item at a time.
      states: file with `user_state [DISTINCT, P]` and `state_model [DISTINCT]`, for `score_with_state`.
    """
    from benchmarks.w1 import USER_SIZES

    if signature.endswith(_EXAMPLES):
        return tuple({"examples": np.array([_example(request)], object)}
                     for request in arrays(signature.removesuffix(_EXAMPLES)))
    rng = np.random.default_rng(6)
    kept = dict(np.load(states)) if signature == "score_with_state" else {}
    found = []
    for number in range(DISTINCT):
        if signature == "embed_items":
            found.append({"query_item_id": rng.integers(0, NUM_ITEMS, 1)})
            continue
        request = {f"user_user_{i}": rng.integers(0, size, 1) for i, size in enumerate(USER_SIZES)}
        if signature.endswith("recommend"):
            request["exclude_item"] = rng.integers(0, NUM_ITEMS, (1, SUPPORT))
            request["exclude_length"] = np.array([SUPPORT], np.int32)
        if signature in _CANDIDATES:
            request["query_item_id"] = rng.integers(0, NUM_ITEMS, (1, CANDIDATES))
        if signature in _SUPPORT:
            request["support_item_id"] = rng.integers(0, NUM_ITEMS, (1, SUPPORT))
            request["support_label"] = rng.integers(1, 6, (1, SUPPORT)).astype(np.float32)
            request["support_length"] = np.array([SUPPORT], np.int32)
        found.append(request | {name: values[number:number + 1].astype(object if values.dtype.kind == "S" else
                                                                       values.dtype)
                                for name, values in kept.items()})
    return tuple(found)


def _example(request: dict[str, np.ndarray]) -> bytes:
    from tfmeta.serving import wire

    example = wire.Example()
    for name, value in request.items():
        if name != "support_length":
            feature = example.features.feature[name]
            values = feature.float_list.value if value.dtype.kind == "f" else feature.int64_list.value
            values.extend(value.ravel().tolist())
    return example.SerializeToString()


def grpc_bodies(model: str, signature: str, states: str | None = None) -> list[bytes]:
    """Returns PredictRequests as bytes."""
    from tfmeta.serving import tensor_codec, wire

    found = []
    for inputs in arrays(signature, states):
        request = wire.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, value in inputs.items():
            tensor_codec.encode(value, request.inputs[name])
        found.append(request.SerializeToString())
    return found


def rest_bodies(model: str, signature: str, states: str | None = None) -> list[bytes]:
    """Returns JSON objects as bytes."""
    from tfmeta.serving.client import rest_messages
    from tfmeta.serving.client.calls import PredictCall

    return [rest_messages.encode(PredictCall(model, signature, inputs)) for inputs in arrays(signature, states)]
