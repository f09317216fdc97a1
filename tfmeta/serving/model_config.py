"""What a server is told about one model."""

import dataclasses
from collections.abc import Mapping

from tfmeta.serving.version_policy import VersionPolicy


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """One entry of a ModelServerConfig.

    Attributes:
      name: what requests call the model.
      base_path: the directory with its numeric version directories; anything that `tf.io.gfile` opens.
      policy: which versions are served.
      labels: label -> version number, such as `{"stable": 3, "canary": 4}`.
    """

    name: str
    base_path: str
    policy: VersionPolicy = dataclasses.field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
