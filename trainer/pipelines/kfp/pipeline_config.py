"""What is fixed when the pipeline is compiled."""

import dataclasses
import re

from tfmeta import __version__
from tfmeta.config import require
from trainer.pipelines.pipeline_parameters import PipelineParameters


@dataclasses.dataclass(frozen=True)
class ResourcesConfig:
    """What one step gets; 0 leaves it to the engine.

    Attributes:
      cpus: number of cores.
      memory_gib: memory in GiB.
      accelerator: kind, such as NVIDIA_TESLA_T4 (Vertex AI) or nvidia.com/gpu; empty for none.
      accelerators: their number.
    """

    cpus: int = 0
    memory_gib: int = 0
    accelerator: str = ""
    accelerators: int = 0

    def __post_init__(self):
        require(0 <= self.cpus <= 416, "cpus", "0 to 416", self.cpus)
        require(0 <= self.memory_gib <= 11_776, "memory_gib", "0 to 11776", self.memory_gib)
        require(0 <= self.accelerators <= 16, "accelerators", "0 to 16", self.accelerators)
        require(bool(self.accelerator) == bool(self.accelerators), "accelerators",
                "a number together with 'accelerator', or neither", self.accelerators)


@dataclasses.dataclass(frozen=True)
class UploadConfig:
    """Registration of the exported model with Vertex AI.

    Attributes:
      project: that gets the model; empty for no upload.
      location: region.
      display_name: of the model.
    """

    project: str = ""
    location: str = "us-central1"
    display_name: str = "tfmeta"

    def __post_init__(self):
        require(bool(self.location) and bool(self.display_name), "location", "a region, and a display name",
                self.location)


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """The pipeline as it is compiled.

    Attributes:
      name: of the pipeline: small letters, digits and hyphens.
      image: of all steps' containers.
      gpu_image: of the training step where that has an accelerator; empty for `image` with `-gpu` after its tag.
      train_resources, batch_resources, resources: of training, of batch scoring, of every other step.
      upload: registration with Vertex AI.
      parameters: defaults of what a run is told.

    Raises:
      ConfigError: if a value is out of range.
    """

    name: str = "tfmeta"
    image: str = f"tfmeta:{__version__}"
    gpu_image: str = ""
    resources: ResourcesConfig = ResourcesConfig()
    train_resources: ResourcesConfig = ResourcesConfig()
    batch_resources: ResourcesConfig = ResourcesConfig()
    upload: UploadConfig = UploadConfig()
    parameters: PipelineParameters = dataclasses.field(default_factory=PipelineParameters)

    def __post_init__(self):
        require(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", self.name) is not None, "name",
                "1 to 128 small letters, digits and hyphens", self.name)
        require(re.fullmatch(r"\S+", self.image) is not None, "image", "a container image", self.image)
        require(not re.search(r"\s", self.gpu_image), "gpu_image", "a container image", self.gpu_image)
        require(self.gpu_image != "" or self.train_resources.accelerators == 0 or "@" not in self.image, "gpu_image",
                "a container image where 'image' is named by digest and training has accelerators", self.gpu_image)

    @property
    def train_image(self) -> str:
        """The image of the training step."""
        if self.train_resources.accelerators == 0:
            return self.image
        return self.gpu_image or f"{self.image}-gpu"
