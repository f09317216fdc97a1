"""Golden cases of `adapt_and_score`."""

from export.golden import GoldenCase
from export.golden_requests import GoldenRequests

_READ = ("user", "query", "support")


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    made = []
    for name, request in requests.unusual():
        encoded = requests.encode(request)
        scores, base = requests.recommender.adapt_and_score(encoded.user, query_item=encoded.query,
                                                            **encoded.adaptation)
        made.append(GoldenCase(name, "adapt_and_score", requests.inputs(request, *_READ),
                               {"scores": scores.numpy(), "base_scores": base.numpy(),
                                "status": encoded.status(*_READ)}))
    return made
