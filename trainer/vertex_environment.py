"""What a training service tells a job through environment variables."""

import dataclasses
import json
from collections.abc import Mapping

from tfmeta.errors import RunError


@dataclasses.dataclass(frozen=True)
class VertexEnvironment:
    """Variables that Vertex AI sets for a custom training job; all of them may be absent.

    Attributes:
      model_dir: AIP_MODEL_DIR, where the SavedModel goes.
      checkpoint_dir: AIP_CHECKPOINT_DIR.
      tensorboard_dir: AIP_TENSORBOARD_LOG_DIR.
      data_format: AIP_DATA_FORMAT, `csv`, `jsonl` or `bigquery`.
      training_data, validation_data, test_data: AIP_TRAINING_DATA_URI and its siblings.
    """

    model_dir: str | None = None
    checkpoint_dir: str | None = None
    tensorboard_dir: str | None = None
    data_format: str | None = None
    training_data: str | None = None
    validation_data: str | None = None
    test_data: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "VertexEnvironment":
        """Reads the variables and checks TF_CONFIG; empty values count as absent.

        Raises:
          RunError: if TF_CONFIG is malformed or names more than one worker.
        """
        require_single_worker(environ.get("TF_CONFIG"))
        names = {"model_dir": "AIP_MODEL_DIR", "checkpoint_dir": "AIP_CHECKPOINT_DIR",
                 "tensorboard_dir": "AIP_TENSORBOARD_LOG_DIR", "data_format": "AIP_DATA_FORMAT",
                 "training_data": "AIP_TRAINING_DATA_URI", "validation_data": "AIP_VALIDATION_DATA_URI",
                 "test_data": "AIP_TEST_DATA_URI"}
        return cls(**{field: environ.get(name) or None for field, name in names.items()})


def require_single_worker(tf_config: str | None) -> None:
    """Raises RunError where TF_CONFIG (JSON, or None) describes more than one machine that would train.

    Several processes that each trained the whole run would write the same files.
    """
    if not tf_config:
        return
    try:
        values = json.loads(tf_config)
        cluster = values.get("cluster") or {}
        sizes = {job: len(hosts) for job, hosts in cluster.items() if len(hosts)}
        task = values.get("task") or {}
        kind, index = task.get("type", "chief"), int(task.get("index", 0))
    except (ValueError, TypeError, AttributeError):
        raise RunError(f"TF_CONFIG requires JSON with 'cluster' and 'task', received '{tf_config}'.") from None
    machines = sum(sizes.values())
    if machines > 1 or index != 0 or kind not in ("chief", "master", "worker"):
        received = ", ".join(f"{n} {job}" for job, n in sizes.items()) or "no cluster"
        raise RunError(
            f"Training requires a single worker: several workers are not supported in this version. TF_CONFIG names "
            f"{received}, and this process as {kind} {index}. Use one worker pool with one replica.")
