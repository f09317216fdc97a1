"""What is fixed when the TFX pipeline is built."""

import dataclasses
import re

from tfmeta import __version__
from tfmeta.config import require
from tfmeta.data.prepare_dataset import SYNTHETIC
from trainer.pipelines.pipeline_parameters import PipelineParameters

# Parameters of the KFP pipeline's further steps.
_UNUSED = ("serving", "serving_image", "batch_mode", "batch_interactions", "batch_candidates", "batch_users",
           "beam_options")


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """The TFX pipeline.

    Attributes:
      name: of the pipeline: small letters, digits and hyphens.
      root: where artifacts go, on any file system that all steps see.
      push_to: base path of the model server, which gets `<version>/`.
      image: container with TFX and this package, for engines that run containers.
      parameters: what is prepared, trained, evaluated and exported; those of batch scoring and of the serving
        container are of other pipelines.

    Raises:
      ConfigError: if a value is out of range.
    """

    name: str = "tfmeta"
    root: str = "pipeline-root"
    push_to: str = "served/tfmeta"
    image: str = f"tfmeta-tfx:{__version__}"
    parameters: PipelineParameters = dataclasses.field(default_factory=PipelineParameters)

    def __post_init__(self):
        require(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", self.name) is not None, "name",
                "1 to 128 small letters, digits and hyphens", self.name)
        require(re.fullmatch(r"\S+", self.image) is not None, "image", "a container image", self.image)
        for key in ("root", "push_to"):
            require(bool(getattr(self, key)), key, "a directory", getattr(self, key))
        given, defaults = self.parameters, PipelineParameters()
        for key in _UNUSED:
            require(getattr(given, key) == getattr(defaults, key), f"parameters.{key}",
                    "nothing: the TFX pipeline has no such step", getattr(given, key))

    def require_source(self) -> None:
        """Raises ConfigError unless it is said where the data is, which no default can know."""
        p = self.parameters
        require(p.dataset == SYNTHETIC or bool(p.source), "parameters.source",
                f"where the files of data set {p.dataset} are", p.source)
        require(p.dataset not in ("csv", "parquet") or bool(p.schema), "parameters.schema",
                f"a YAML file that says what the files of data set {p.dataset} look like", p.schema)
