"""What a training service tells a job through environment variables."""

import dataclasses
from collections.abc import Mapping

from trainer.distribution.cluster import Cluster


@dataclasses.dataclass(frozen=True)
class VertexEnvironment:
    """Variables that Vertex AI sets for a custom training job; all of them may be absent.

    Attributes:
      model_dir: AIP_MODEL_DIR, where the SavedModel goes.
      checkpoint_dir: AIP_CHECKPOINT_DIR.
      tensorboard_dir: AIP_TENSORBOARD_LOG_DIR.
      data_format: AIP_DATA_FORMAT, `csv`, `jsonl` or `bigquery`.
      training_data, validation_data, test_data: AIP_TRAINING_DATA_URI and its siblings.
      cluster: the workers, from TF_CONFIG.
    """

    model_dir: str | None = None
    checkpoint_dir: str | None = None
    tensorboard_dir: str | None = None
    data_format: str | None = None
    training_data: str | None = None
    validation_data: str | None = None
    test_data: str | None = None
    cluster: Cluster = dataclasses.field(default_factory=Cluster)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "VertexEnvironment":
        """Reads the variables; empty values count as absent.

        Raises:
          RunError: if TF_CONFIG is malformed.
        """
        names = {"model_dir": "AIP_MODEL_DIR", "checkpoint_dir": "AIP_CHECKPOINT_DIR",
                 "tensorboard_dir": "AIP_TENSORBOARD_LOG_DIR", "data_format": "AIP_DATA_FORMAT",
                 "training_data": "AIP_TRAINING_DATA_URI", "validation_data": "AIP_VALIDATION_DATA_URI",
                 "test_data": "AIP_TEST_DATA_URI"}
        return cls(cluster=Cluster.read(environ),
                   **{field: environ.get(name) or None for field, name in names.items()})
