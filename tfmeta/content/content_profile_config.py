"""Settings of the content profile."""

import dataclasses

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class ContentProfileConfig:
    """How a content profile is fitted.

    Attributes:
      name: of the feature that holds it.
      factors: collaborative factors that are predicted beside the item bias.
      max_items: items that predictions are made from, those with the most interactions; time grows with its cube.
      search_items: of these, items that the features' weights are chosen on.
      sweeps: passes over the features in that search; 0 leaves all weights equal.
      seed: of the factorisation.
    """

    name: str = "content_profile"
    factors: int = 16
    max_items: int = 4000
    search_items: int = 1000
    sweeps: int = 2
    seed: int = 0

    def __post_init__(self):
        require(self.name.isidentifier(), "name", "letters, digits and underscores", self.name)
        require(self.factors >= 1, "factors", "at least 1", self.factors)
        require(self.max_items >= 2, "max_items", "at least 2", self.max_items)
        require(self.search_items >= 2, "search_items", "at least 2", self.search_items)
        require(self.sweeps >= 0, "sweeps", "0 or more", self.sweeps)
