"""The requests of `benchmarks.serving`: one user, 20 support rows, 100 candidates. Needs NumPy and gRPC alone."""

import functools
import json

import numpy as np

SUPPORT, CANDIDATES, NUM_ITEMS = 20, 100, 4_000
_DISTINCT = 16


@functools.cache
def arrays(signature: str) -> tuple[dict[str, np.ndarray], ...]:
    """Returns different requests to a signature, all of the same shapes."""
    from benchmarks.w1 import USER_SIZES

    rng = np.random.default_rng(6)
    found = []
    for _ in range(_DISTINCT):
        request = {f"user_user_{i}": rng.integers(0, size, 1) for i, size in enumerate(USER_SIZES)}
        if signature == "recommend":
            request["exclude_item"] = rng.integers(0, NUM_ITEMS, (1, SUPPORT))
            request["exclude_length"] = np.array([SUPPORT], np.int32)
        else:
            request["query_item_id"] = rng.integers(0, NUM_ITEMS, (1, CANDIDATES))
        if signature == "adapt_and_score":
            request["support_item_id"] = rng.integers(0, NUM_ITEMS, (1, SUPPORT))
            request["support_label"] = rng.integers(1, 6, (1, SUPPORT)).astype(np.float32)
            request["support_length"] = np.array([SUPPORT], np.int32)
        found.append(request)
    return tuple(found)


def grpc_bodies(model: str, signature: str) -> list[bytes]:
    """Returns PredictRequests as bytes."""
    from tfmeta.serving import tensor_codec, wire

    found = []
    for inputs in arrays(signature):
        request = wire.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, value in inputs.items():
            tensor_codec.encode(value, request.inputs[name])
        found.append(request.SerializeToString())
    return found


def rest_bodies(model: str, signature: str) -> list[bytes]:
    """Returns JSON objects as bytes."""
    return [json.dumps({"signature_name": signature, "inputs": {k: v.tolist() for k, v in inputs.items()}}).encode()
            for inputs in arrays(signature)]
