"""How much each interaction moved each score of one user."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain` returns for a user.

    Attributes:
      items: ids of the candidates `[Q]`.
      support: ids of the support's items, in the order in which they were sent `[S]`.
      influence: `[Q, S]` float32: what the score would lose without the interaction, in the label's own unit.
      scores, base_scores: `[Q]` float32, adapted and not.
      status: bits, 0 if all is well.
      version: version of the model that answered, None if the server did not say.
    """

    items: np.ndarray
    support: np.ndarray
    influence: np.ndarray
    scores: np.ndarray
    base_scores: np.ndarray
    status: int = 0
    version: int | None = None
