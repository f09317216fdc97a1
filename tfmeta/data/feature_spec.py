"""The contract between data preparation, training, the exported graph, the client and the batch job."""

import dataclasses
import hashlib
import json
from typing import Literal

from tfmeta import config
from tfmeta.data.feature import Feature
from tfmeta.data.label import Label
from tfmeta.errors import ConfigError

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """All features of a data set; written once by data preparation, read by everything else.

    Attributes:
      label: unit, range and statistics of the label.
      task_side: `user` (a task is a user) or `item` (a task is an item). With `item` the roles are swapped in all that
        reads this: what is called `user` is the task's side, an item with its features, and what is called `item`
        is the other side, the users that interact with it.
      user_id, item_id: categorical features whose vocabularies are the training users and items. A user id is
        never a model input (a new user has none); an item id may be one.
      user_features, item_features: side features in a fixed order, ids not among them.
      title: name of the column of items that people read, or None.
    """

    label: Label
    user_id: Feature
    item_id: Feature
    user_features: tuple[Feature, ...] = ()
    item_features: tuple[Feature, ...] = ()
    task_side: Literal["user", "item"] = "user"
    title: str | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self):
        config.require(self.format_version == FORMAT_VERSION, "format_version", f"{FORMAT_VERSION}",
                       self.format_version)
        for side, features in (("user", self.user_features), ("item", self.item_features)):
            names = [f.name for f in features]
            repeated = {n for n in names if names.count(n) > 1}
            if repeated:
                raise ConfigError(f"{side} feature names must differ; repeated: {sorted(repeated)}.")

    def swap_sides(self) -> "FeatureSpec":
        """Returns the specification of the same data with the other side's entities as tasks."""
        return dataclasses.replace(
            self, task_side="item" if self.task_side == "user" else "user", user_id=self.item_id, item_id=self.user_id,
            user_features=self.item_features, item_features=self.user_features)

    def to_json(self) -> str:
        """Returns canonical JSON: the same specification gives the same bytes."""
        return json.dumps(config.to_dict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "FeatureSpec":
        """Parses what `to_json` wrote; ConfigError on an unknown key or version."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"A feature specification requires JSON: {error}") from None
        return config.parse(cls, values, where="feature_spec")

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the canonical JSON, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode("utf-8")).hexdigest()
