"""Golden cases of `adapt`."""

import numpy as np

from export.golden import GoldenCase
from export.golden_requests import Encoded, GoldenRequests

_READ = ("user", "support")
_ASKED = ("support of every length", "empty support of width 1", "non-finite labels", "support beyond the bound",
          "non-finite features")


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
    """Joins each task's fast weights in the order of their names; those of an empty support are the initial ones."""
    start = requests.recommender.learner.init(encoded.user)
    adapted = requests.recommender.adapt(encoded.user, **encoded.adaptation)
    flat = [np.concatenate([_plain(fast[name], len(encoded.length)) for name in sorted(fast)], axis=1)
            for fast in (adapted, start)]
    return np.where(encoded.length[:, None] > 0, *flat).astype(np.float32)


def models(requests: GoldenRequests, batch: int) -> np.ndarray:
    return np.full(batch, requests.fingerprint, object)


def _plain(weight, batch: int) -> np.ndarray:
    """The values of a fast weight `[B, size]`, from any form of it."""
    if hasattr(weight, "coefficients"):
        rows = weight.coefficients.numpy()
        inputs = np.concatenate([np.broadcast_to(part, (*rows.shape[:2], part.shape[-1])) for part in weight.inputs],
                                axis=-1)
        return (weight.base.numpy() + np.einsum("bsi,bso->bio", inputs, rows)).reshape(batch, -1)
    if hasattr(weight, "value"):
        return np.tile(weight.value.numpy().reshape(1, -1), [batch, 1])
    return weight.numpy().reshape(batch, -1)
