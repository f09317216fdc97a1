"""Golden cases of `embed_items`."""

import numpy as np

from export.golden import GoldenCase
from export.golden_requests import UNKNOWN, GoldenRequests
from export.sample_requests import as_inputs
from export.signatures import status


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    request = requests.draw(batch=1, query=6)
    items = {name: value[0] for name, value in request.query.items()}
    spec = requests.spec.item_id
    items[spec.name][:2] = UNKNOWN[spec.dtype], spec.missing
    expected = requests.encode_items(items).numpy().astype(np.float32)
    kept = {f.name for f in requests.request_features}
    query = {name: value for name, value in items.items() if name in kept}
    replaced = np.zeros(6, bool)
    for value in query.values():
        if value.dtype.kind == "f":
            replaced |= ~np.isfinite(value).reshape(6, -1).all(axis=1)
    return [GoldenCase("known, unknown and missing items", "embed_items", as_inputs(user={}, query=query), {
        "embedding": expected, "status": status.FEATURE_REPLACED * replaced.astype(np.int32)})]
