"""Golden cases of `explain`: exact ones by adapting without each row in turn."""

import numpy as np
import tensorflow as tf

from export.golden import GoldenCase
from export.golden_requests import Encoded, GoldenRequests
from export.influence.influence import Influence

_READ = ("user", "query", "support")


def cases(requests: GoldenRequests) -> list[GoldenCase]:
    dropped = requests.draw(length=[5, 6, 7])
    dropped.label[0, 1], dropped.label[1, :] = np.nan, np.inf
    made = []
    for name, request in (("support of every length", requests.draw(length=[1, 0, 6])), ("dropped rows", dropped)):
        encoded = requests.encode(request)
        scores, base = requests.recommender.adapt_and_score(encoded.user, query_item=encoded.query,
                                                            **encoded.adaptation)
        by_row = _influence(requests, encoded, scores, base)
        placed = np.zeros((*scores.shape, request.label.shape[1]), np.float32)
        for i, kept in enumerate(encoded.kept):
            placed[i][:, kept] = by_row[i, :, :len(kept)]
        made.append(GoldenCase(name, "explain", requests.inputs(request, *_READ), {
            "influence": placed, "scores": scores.numpy(), "base_scores": base.numpy(),
            "status": encoded.status(*_READ)}))
    return made


def _influence(requests: GoldenRequests, encoded: Encoded, scores: tf.Tensor, base: tf.Tensor) -> np.ndarray:
    """Returns the influences of the usable rows, `[B, Q, W]`."""
    recommender = requests.recommender
    method = Influence(recommender, support_bound=requests.bound, at_once=1)
    if not method.exact:
        return method(encoded.user, query_item=encoded.query, scores=scores, base=base, **encoded.adaptation).numpy()
    support, label, width = encoded.support.numpy(), encoded.label, encoded.label.shape[1]
    found = np.zeros((*scores.shape, width), np.float32)
    for row in range(width):
        without, _ = recommender.adapt_and_score(
            encoded.user, query_item=encoded.query,
            support_item=tf.constant(np.delete(support, row, axis=1) if width > 1 else support),
            support_label=tf.constant(np.delete(label, row, axis=1) if width > 1 else label),
            support_length=tf.constant(encoded.length - (row < encoded.length)))
        found[:, :, row] = np.where((row < encoded.length)[:, None], scores - without, 0)
    return found
