"""Golden cases of `metadata`."""

import numpy as np

from export.golden import GoldenCase
from export.golden_requests import GoldenRequests


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    names = [*requests.documents, "no such document", ""]
    texts = [requests.documents.get(name, "") for name in names]
    return [GoldenCase("every document", "metadata", {"document": np.array(names, object)},
                       {"json": np.array(texts, object), "status": np.zeros(len(names), np.int32)})]
