"""What requests see of a model."""

import dataclasses
from collections.abc import Mapping

from tfmeta.serving.lifecycle.managed_version import ManagedVersion


@dataclasses.dataclass(frozen=True)
class ModelView:
    """An immutable snapshot of the versions that answer requests.

    Attributes:
      versions: number -> version.
      latest: the one with the highest number, or None.
    """

    versions: Mapping[int, ManagedVersion] = dataclasses.field(default_factory=dict)
    latest: ManagedVersion | None = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "latest", self.versions[max(self.versions)] if self.versions else None)

    def adding(self, version: ManagedVersion) -> "ModelView":
        """Returns a view with one more version, or with another one of the same number."""
        return ModelView({**self.versions, version.number: version})

    def without(self, numbers: set[int]) -> "ModelView":
        """Returns a view without some versions."""
        return ModelView({n: v for n, v in self.versions.items() if n not in numbers})
