"""Golden cases of `adapt_and_recommend`."""

import numpy as np

from export.golden import GoldenCase
from export.golden_cases.lists import Lists, listed
from export.golden_cases.recommend import exclusions
from export.golden_requests import GoldenRequests
from tfmeta.learners.task_tensors import Query


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    lists, made = Lists(requests), []
    width = requests.bound + 2
    dropped = requests.draw(length=[5, 6, 3])
    dropped.label[0, 1], dropped.label[1, :] = np.nan, np.inf
    for name, request in (("support of every length", requests.draw(length=[1, 0, 6])),
                          ("non-finite labels", dropped),
                          ("support beyond the bound", requests.draw(batch=1, width=width, length=[width + 1]))):
        exclude, odd = exclusions(requests, [2, 4, 0][:request.batch])
        encoded = requests.encode(request)
        scores, outputs = _adapted(requests, encoded, lists)
        seen = listed(requests, request.support[requests.spec.item_id.name], request.length)
        gone = [a | b for a, b in zip(listed(requests, *exclude.values()), seen, strict=True)]
        made.append(GoldenCase(
            name, "adapt_and_recommend", {**requests.inputs(request, "user", "support"), **exclude},
            {**lists.answer(scores, outputs, gone), "status": encoded.status("user", "support") | odd}))
    return made


def _adapted(requests: GoldenRequests, encoded, lists: Lists) -> tuple[np.ndarray, np.ndarray]:
    """Returns the adapted scores and outputs of the whole catalogue, unadapted ones where adaptation says nothing."""
    recommender, user, tasks = requests.recommender, encoded.user, len(encoded.length)
    start, fast = recommender.learner.init(user), recommender.adapt(user, **encoded.adaptation)

    def outputs(weights):
        return lists.scores(lambda item: recommender.learner.predict(weights, Query(user, item)).output, tasks=tasks)

    adapted, base = outputs(fast), outputs(start)
    usable = np.isfinite(adapted).all(axis=1, keepdims=True) & (encoded.length > 0)[:, None]
    scores = np.where(usable, lists.scores(lambda item: recommender.predict_scores(fast, user, item), tasks=tasks),
                      lists.scores(lambda item: recommender.score(user, item), tasks=tasks))
    return scores, np.where(usable, adapted, base)
