"""What the Trainer is told."""

import dataclasses
from typing import Literal

from tfmeta.config import require
from tfmeta.data.schema import Schema
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.vocabulary_config import VocabularyConfig


@dataclasses.dataclass(frozen=True)
class TrainerSettings:
    """The `custom_config` of a Trainer with our `run_fn`.

    Attributes:
      schema: names of the features in the Examples and what they are; None takes it from the Schema artifact, which
        must then be one of `interaction_example_gen`.
      split, vocabulary: of the preparation.
      config: training configuration, a YAML file or the name of a packaged one; empty for the defaults.
      train: settings laid over it, as of `tfmeta train --set`.
      default_signature, item_features, support_bound, top_k: as of `tfmeta export`.

    Raises:
      ConfigError: if a value is out of range.
    """

    schema: Schema | None = None
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)
    vocabulary: VocabularyConfig = dataclasses.field(default_factory=VocabularyConfig)
    config: str = ""
    train: dict = dataclasses.field(default_factory=dict)
    default_signature: Literal["score", "adapt_and_score"] = "adapt_and_score"
    item_features: Literal["catalogue", "request"] = "catalogue"
    support_bound: int = 100
    top_k: int = 100

    def __post_init__(self):
        require(1 <= self.support_bound <= 10_000, "support_bound", "1 to 10000", self.support_bound)
        require(1 <= self.top_k <= 10_000, "top_k", "1 to 10000", self.top_k)
