"""Scores of one user's candidates."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Scores:
    """What `score`, `adapt_and_score` and `score_with_state` return for a user.

    Attributes:
      items: ids of the candidates, in the order in which they were sent `[Q]`.
      scores: `[Q]` float32 in the label's own unit.
      base_scores: `[Q]` float32, what the model says without adapting; None from the other two methods.
      status: bits, 0 if all is well; see the signatures.
      version: version of the model that answered, None if the server did not say.
    """

    items: np.ndarray
    scores: np.ndarray
    base_scores: np.ndarray | None = None
    status: int = 0
    version: int | None = None

    def ranked(self) -> list[tuple]:
        """Returns (item, score), best first; equal scores keep their order."""
        order = np.argsort(-self.scores, kind="stable")
        return list(zip(self.items[order].tolist(), self.scores[order].tolist(), strict=True))
