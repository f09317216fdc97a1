"""Golden cases of `score`."""

from export.golden import GoldenCase
from export.golden_requests import GoldenRequests

_READ = ("user", "query")
_ASKED = ("batch of one", "unknown ids", "non-finite features")


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    made = []
    for name, request in (("score", requests.draw()), *requests.unusual()):
        if name in ("score", *_ASKED):
            encoded = requests.encode(request)
            scores = requests.recommender.score(encoded.user, encoded.query).numpy()
            made.append(GoldenCase(name, "score", requests.inputs(request, *_READ),
                                   {"scores": scores, "status": encoded.status(*_READ)}))
    return made
