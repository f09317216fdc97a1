"""Golden cases of `recommend`."""

import numpy as np

from export.golden import GoldenCase
from export.golden_cases.lists import Lists, listed
from export.golden_requests import UNKNOWN, GoldenRequests
from export.sample_requests import draw_items
from export.signatures import status
from tfmeta.learners.task_tensors import Query


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    lists, recommender, made = Lists(requests), requests.recommender, []
    for name, lengths in (("exclusions", [0, 2, 4]), ("lengths outside the exclusions", [-1, 9, 2**31 - 1])):
        request = requests.draw()
        exclude, odd = exclusions(requests, lengths)
        encoded = requests.encode(request)
        start = recommender.learner.init(encoded.user)
        scores = lists.scores(lambda item, user=encoded.user: recommender.score(user, item), tasks=len(lengths))
        outputs = lists.scores(
            lambda item, fast=start, user=encoded.user: recommender.learner.predict(fast, Query(user, item)).output,
            tasks=len(lengths))
        expected = lists.answer(scores, outputs, listed(requests, *exclude.values()))
        made.append(GoldenCase(name, "recommend", {**requests.inputs(request, "user"), **exclude},
                               {**expected, "status": encoded.status("user") | odd}))
    return made


def exclusions(requests: GoldenRequests, lengths: list[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws lists of four ids to leave out, the second one unknown, and what their lengths add to the status."""
    spec, width = requests.spec.item_id, 4
    ids = draw_items(requests.catalogue, (len(lengths), width), requests.rng)[spec.name]
    ids[:, 1] = UNKNOWN[spec.dtype]
    length = np.array(lengths, np.int32)
    return ({"exclude_item": ids, "exclude_length": length},
            (status.LENGTH_CLAMPED * ((length < 0) | (length > width))).astype(np.int32))
