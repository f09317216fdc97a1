"""Golden cases of `score_with_state`."""

import numpy as np

from export.golden import GoldenCase
from export.golden_cases.adapt import models, state
from export.golden_requests import GoldenRequests
from export.signatures import status

_READ = ("user", "query")


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    """What `adapt_and_score` answers to the support behind the state; unadapted scores where the state is no use."""
    request = requests.draw(batch=5, length=[6, 3, 0, 4, 5])
    encoded = requests.encode(request)
    scores, base = (s.numpy() for s in requests.recommender.adapt_and_score(
        encoded.user, query_item=encoded.query, **encoded.adaptation))
    states, owners = state(requests, encoded), models(requests, 5)
    owners[3] = "another model"
    states[4, 0] = np.nan
    expected, bits = np.concatenate([scores[:3], base[3:]]), encoded.status(*_READ)
    bits[3] |= status.STATE_REJECTED
    bits[4] |= status.FEATURE_REPLACED
    inputs = requests.inputs(request, *_READ)
    made = [GoldenCase("states of all kinds", "score_with_state",
                       {"user_state": states, "state_model": owners, **inputs}, {"scores": expected, "status": bits})]
    wide = np.concatenate([states[:4], states[:4, :1]], axis=1)
    made.append(GoldenCase(
        "states padded by a merge", "score_with_state",
        {"user_state": wide, "state_model": owners[:4], **{k: v[:4] for k, v in inputs.items()}},
        {"scores": expected[:4], "status": bits[:4]}))
    made.append(GoldenCase(
        "a state of another width", "score_with_state",
        {"user_state": np.ones((2, max(states.shape[1] - 1, 1)), np.float32), "state_model": owners[[3, 3]],
         **{k: v[:2] for k, v in inputs.items()}},
        {"scores": base[:2], "status": encoded.status(*_READ)[:2] | status.STATE_REJECTED}))
    return made
