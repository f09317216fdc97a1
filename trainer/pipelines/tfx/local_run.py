"""The pipeline in this process."""

import dataclasses
import os

from tfmeta.io import filesystem
from trainer.pipelines.tfx.pipeline_config import PipelineConfig
from trainer.pipelines.tfx.require_tfx import require_tfx

METADATA = "metadata.sqlite"


@dataclasses.dataclass(frozen=True)
class LocalRun:
    """What a run of the pipeline has left.

    Attributes:
      passed: whether the gate was passed.
      reasons: why not; empty if it was.
      report: HTML file of the evaluation.
      model: directory of the pushed version; None if the gate kept it back.
    """

    passed: bool
    reasons: str
    report: str
    model: str | None


def run_local(config: PipelineConfig, *, metadata: str | None = None) -> LocalRun:
    """Runs the pipeline with TFX's LocalDagRunner.

    Args:
      config: with the parameters; the image means nothing here.
      metadata: file of the metadata store; default `<root>/metadata.sqlite`.

    Returns:
      what this run has left.

    Raises:
      ConfigError: if TFX is not installed, or it is not said where the data is.
      TfmetaError: as the steps do.
    """
    config.require_source()
    require_tfx()
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    from trainer.pipelines.tfx.pipeline import build_pipeline

    connection = sqlite_metadata_connection_config(metadata or os.path.join(config.root, METADATA))
    filesystem.makedirs(os.path.dirname(os.path.abspath(connection.sqlite.filename_uri)))
    LocalDagRunner().run(build_pipeline(config, metadata_connection_config=connection))
    return _outcome(connection)


def _outcome(connection) -> LocalRun:
    """Returns what the last execution of each component has left, by the metadata store."""
    from ml_metadata import metadata_store

    store = metadata_store.MetadataStore(connection)
    blessing, evaluation, pushed = (max(store.get_artifacts_by_type(name), key=lambda a: a.id)
                                    for name in ("ModelBlessing", "ModelEvaluation", "PushedModel"))

    was_pushed = pushed.custom_properties["pushed"].int_value == 1
    return LocalRun(passed=blessing.custom_properties["blessed"].int_value == 1,
                    reasons=blessing.custom_properties["blessing_message"].string_value,
                    report=filesystem.join(evaluation.uri, "report.html"),
                    model=pushed.custom_properties["pushed_destination"].string_value if was_pushed else None)
