"""The best items of a catalogue by a sort, and diversity by a greedy choice in numpy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from export.golden_requests import GoldenRequests
from export.retrieval.retriever import POOL

_ROWS = 1024


class Lists:
    """Answers requests for lists without the exported graph.

    Args:
      requests: of the export; its whole catalogue is encoded from the features.
    """

    def __init__(self, requests: GoldenRequests):
        self._requests = requests
        self._ids = requests.catalogue[requests.spec.item_id.name]
        self._parts = [requests.encode_items({k: v[start:start + _ROWS] for k, v in requests.catalogue.items()})
                       for start in range(0, len(self._ids), _ROWS)]

    def scores(self, score: Callable[[tf.Tensor], tf.Tensor], *, tasks: int) -> np.ndarray:
        """Returns what a function of items `[B, N, Di]` -> `[B, N]` says of the whole catalogue, `[B, I]`."""
        return np.concatenate([score(tf.tile(part[None], [tasks, 1, 1])).numpy() for part in self._parts], axis=1)

    def answer(self, scores: np.ndarray, outputs: np.ndarray, excluded: list[set]) -> dict[str, np.ndarray]:
        """Returns the expected outputs but the status.

        Args:
          scores: `[B, I]`, as served.
          outputs: `[B, I]`, before they become scores: what diversity weighs.
          excluded: for each task the raw ids to leave out.
        """
        spec, count = self._requests.spec.item_id, self._requests.top_k
        shape = (len(scores), count)
        ids = np.full(shape, spec.missing, object if spec.dtype == "string" else np.int64)
        found, values = np.zeros(len(scores), np.int32), np.full(shape, -np.inf, np.float32)
        for i, out in enumerate(excluded):
            left = np.array([row for row in np.argsort(-scores[i], kind="stable") if self._ids[row] not in out], int)
            rows = self._diverse(left[:POOL * count], outputs[i]) if self._requests.diversity else left[:count]
            found[i] = len(rows)
            ids[i, :len(rows)], values[i, :len(rows)] = self._ids[rows], scores[i, rows]
        return {"item_ids": ids, "scores": values, "item_count": found}

    def _diverse(self, rows: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        model, weight = self._requests.recommender.model, self._requests.diversity
        vectors = np.concatenate([self._vectors(part, model) for part in self._parts])[rows]
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        relevance = outputs[rows] - outputs[rows].min() if len(rows) else outputs[rows]
        relevance = relevance / (relevance.max() if len(rows) and relevance.max() > 0 else 1)
        chosen, alike, free = [], np.zeros(len(rows)), np.ones(len(rows), bool)
        while len(chosen) < self._requests.top_k and free.any():
            value = np.where(free, (1 - weight) * relevance - weight * alike, -np.inf)
            chosen.append(int(np.argmax(value)))
            free[chosen[-1]] = False
            likeness = vectors @ vectors[chosen[-1]]
            alike = likeness if len(chosen) == 1 else np.maximum(alike, likeness)
        return rows[chosen]

    @staticmethod
    def _vectors(part: tf.Tensor, model) -> np.ndarray:
        return (model.index_items(part)[..., :-1] if model.has_index else part).numpy()


def listed(requests: GoldenRequests, ids: np.ndarray, length: np.ndarray) -> list[set]:
    """Returns for each task the ids within its length."""
    return [set(row[:max(int(n), 0)].tolist()) for row, n in zip(ids, length, strict=True)]
