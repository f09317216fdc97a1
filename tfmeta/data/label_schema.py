"""The label as a user of the product declares it."""

import dataclasses
from typing import Literal

from tfmeta.config import require
from tfmeta.data.label import Label

# unit -> minimum, maximum, threshold
_DEFAULTS = {"rating": (1.0, 5.0, 4.0), "click": (0.0, 1.0, 0.5), "weight": (0.0, 1e9, 1.0)}


@dataclasses.dataclass(frozen=True)
class LabelSchema:
    """Which column is the label and which values are good.

    Attributes:
      name: column of the interactions files; the default is `rating`, `click` or `weight` after the unit.
      unit: `rating`, `click` (0 or 1) or `weight` (non-negative strength of interest).
      minimum, maximum: bounds; defaults 1 to 5 for ratings, 0 to 1 for clicks, 0 to 1e9 for weights.
      threshold: a label at or above it is relevant; defaults 4, 0.5 and 1.
      implicit: the files have no such column; every row is a positive with label 1.

    Raises:
      ConfigError: if the bounds are out of order, or not 0 and 1 for clicks, or implicit rows are ratings.
    """

    name: str | None = None
    unit: Literal["rating", "click", "weight"] = "rating"
    minimum: float | None = None
    maximum: float | None = None
    threshold: float | None = None
    implicit: bool = False

    def __post_init__(self):
        require(self.unit in _DEFAULTS, "label.unit", f"one of {', '.join(_DEFAULTS)}", self.unit)
        require(self.name != "", "label.name", "a column name", self.name)
        if self.name is None:
            object.__setattr__(self, "name", self.unit)
        for field, value in zip(("minimum", "maximum", "threshold"), _DEFAULTS[self.unit], strict=True):
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
            number = getattr(self, field)
            require(abs(number) <= 1e30, f"label.{field}", "a finite number of at most 1e30", number)
        if self.unit == "click":
            require((self.minimum, self.maximum) == (0.0, 1.0), "label.minimum and label.maximum",
                    "0 and 1 for unit click", (self.minimum, self.maximum))
            require(self.threshold > 0, "label.threshold", "more than 0 for unit click", self.threshold)
        if self.unit == "weight":
            require(self.minimum >= 0, "label.minimum", "at least 0 for unit weight", self.minimum)
        require(not self.implicit or self.unit != "rating", "label.implicit", "unit click or weight", self.unit)
        require(not self.implicit or self.minimum <= 1 <= self.maximum, "label.implicit",
                "bounds that contain 1", (self.minimum, self.maximum))
        self.to_label()

    def to_label(self, *, mean: float = 0.0, std: float = 1.0) -> Label:
        """Returns the `Label` with statistics of the training labels."""
        return Label(name=self.name, unit=self.unit, minimum=self.minimum, maximum=self.maximum,
                     threshold=self.threshold, mean=mean, std=std)
