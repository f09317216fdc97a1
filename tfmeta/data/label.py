"""The label: its unit, range and statistics."""

import dataclasses
from typing import Literal

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class Label:
    """What a label means.

    Attributes:
      name: column name in the raw data.
      unit: `rating` (a number on a scale), `click` (0 or 1) or `weight` (non-negative strength of interest).
      minimum, maximum: bounds in the label's own unit; a value outside is a bad row.
      threshold: a label at or above it counts as relevant in classification and list metrics.
      mean, std: statistics of the training labels; models work on (label - mean) / std for ratings and weights.
    """

    name: str
    unit: Literal["rating", "click", "weight"] = "rating"
    minimum: float = 1.0
    maximum: float = 5.0
    threshold: float = 4.0
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self):
        require(self.minimum < self.maximum, "label.minimum", f"less than maximum {self.maximum}", self.minimum)
        require(self.minimum <= self.threshold <= self.maximum, "label.threshold",
                f"a value in [{self.minimum}, {self.maximum}]", self.threshold)
        require(self.std > 0, "label.std", "a positive number", self.std)
