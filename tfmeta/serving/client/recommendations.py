"""The best of the catalogue for one user."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """What `recommend` returns for a user.

    Attributes:
      items: raw ids, best first `[K]`; fewer than the model's K where fewer are left.
      scores: `[K]` float32 in the label's own unit.
      status: bits, 0 if all is well.
      version: version of the model that answered, None if the server did not say.
    """

    items: np.ndarray
    scores: np.ndarray
    status: int = 0
    version: int | None = None
