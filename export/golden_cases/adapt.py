"""Golden cases of `adapt`."""

import numpy as np

from export.golden import GoldenCase
from export.golden_requests import Encoded, GoldenRequests

_READ = ("user", "support")
_ASKED = ("support of every length", "empty support of width 1", "unknown ids", "non-finite labels",
          "support beyond the bound", "non-finite features")


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    made = []
    for name, request in requests.unusual():
        if name in _ASKED:
            encoded = requests.encode(request)
            made.append(GoldenCase(name, "adapt", requests.inputs(request, *_READ), {
                "user_state": state(requests, encoded), "state_model": models(requests, request.batch),
                "status": encoded.status(*_READ)}))
    return made


def state(requests: GoldenRequests, encoded: Encoded) -> np.ndarray:
    """Adapts each task by itself, and joins its fast weights in the order of their names."""
    rows, learner = [], requests.recommender.learner
    for task, length in enumerate(encoded.length.tolist()):
        alone = slice(task, task + 1)
        user = encoded.user[alone]
        fast = learner.init(user)
        if length:
            support = {key: value[alone, :length] if value.shape.rank > 1 else value[alone]
                       for key, value in encoded.adaptation.items()}
            fast = requests.recommender.adapt(user, **support)
        rows.append(np.concatenate([_plain(fast[name]).ravel() for name in sorted(fast)]))
    return np.stack(rows).astype(np.float32)


def models(requests: GoldenRequests, batch: int) -> np.ndarray:
    return np.full(batch, requests.fingerprint, object)


def _plain(weight) -> np.ndarray:
    """The value of one task's fast weight, from any form of it."""
    if hasattr(weight, "coefficients"):
        inputs = np.concatenate([np.broadcast_to(part, (*weight.coefficients.shape[:2], part.shape[-1]))
                                 for part in weight.inputs], axis=-1)[0]
        return weight.base.numpy() + inputs.T @ weight.coefficients[0].numpy()
    return (weight.value if hasattr(weight, "value") else weight[0]).numpy()
