"""Which values of the training data become part of a vocabulary."""

import dataclasses

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class VocabularyConfig:
    """Least number of training users or items that have a value; rarer values share the hash buckets.

    Attributes:
      min_count: for categorical features.
      multi_categorical_min_count: for multi_categorical ones, whose long tails (actors, tags) are seen once
        each and cannot be learned from.
      features: feature name -> least number, over the two above.
    """

    min_count: int = 1
    multi_categorical_min_count: int = 2
    features: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for name, value in {"min_count": self.min_count,
                            "multi_categorical_min_count": self.multi_categorical_min_count,
                            **{f"features.{n}": v for n, v in self.features.items()}}.items():
            require(isinstance(value, int) and value >= 1, name, "a whole number of at least 1", value)

    def of(self, *, name: str, kind: str) -> int:
        """Returns the least count for one feature."""
        return self.features.get(
            name, self.multi_categorical_min_count if kind == "multi_categorical" else self.min_count)
