"""Which of the versions on disk a server serves."""

import dataclasses
from collections.abc import Iterable

from tfmeta.errors import ServingError


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """TensorFlow Serving's `model_version_policy`: the latest n, all, or a list of specific versions.

    Attributes:
      kind: `latest`, `all` or `specific`.
      count: how many, for `latest`.
      versions: which, for `specific`.

    Raises:
      ServingError: on an unknown kind, a count below 1, or no or negative specific versions.
    """

    kind: str = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()

    def __post_init__(self):
        if self.kind not in ("latest", "all", "specific"):
            raise ServingError(f"A version policy requires 'latest', 'all' or 'specific', received '{self.kind}'.")
        if self.kind == "latest" and self.count < 1:
            raise ServingError(f"The policy 'latest' requires at least 1 version, received {self.count}.")
        if self.kind == "specific" and (not self.versions or min(self.versions) < 0):
            raise ServingError("The policy 'specific' requires version numbers from 0 on, received "
                               f"{list(self.versions)}.")

    def choose(self, available: Iterable[int]) -> set[int]:
        """Returns the versions to serve among those that exist."""
        if self.kind == "all":
            return set(available)
        if self.kind == "specific":
            return set(available) & set(self.versions)
        return set(sorted(available)[-self.count:])
