"""Golden cases of `adapt_and_score_examples`."""

from export.golden import GoldenCase
from export.golden_cases.score_examples import draw, to_bytes
from export.golden_requests import GoldenRequests

_READ = ("user", "query", "support")


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    request, queries, examples = draw(requests)
    encoded = requests.encode(request)
    scores, base = requests.recommender.adapt_and_score(encoded.user, query_item=encoded.query, **encoded.adaptation)
    return [GoldenCase("supports and candidates of every number", "adapt_and_score_examples",
                       {"examples": to_bytes(requests, examples, *_READ)},
                       {"scores": scores.numpy(), "base_scores": base.numpy(), "query_length": queries,
                        "status": encoded.status(*_READ)})]
