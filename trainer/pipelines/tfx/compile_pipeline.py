"""From a configuration to the pipeline's JSON for Vertex AI."""

import json
import os
import tempfile

from tfmeta.config import require
from tfmeta.errors import ConfigError
from tfmeta.io import filesystem
from trainer.pipelines.tfx.pipeline_config import PipelineConfig
from trainer.pipelines.tfx.require_tfx import require_tfx


def compile_pipeline(config: PipelineConfig, *, out: str) -> str:
    """Writes the pipeline job that TFX's KubeflowV2DagRunner makes; the same configuration gives the same bytes.

    Args:
      config: what is compiled.
      out: the JSON file, on any file system.

    Returns:
      `out`.

    Raises:
      ConfigError: if TFX is not installed, the file has another ending than `.json`, or a place is none that the
        steps' machines see.
    """
    if not out.endswith(".json"):
        raise ConfigError(f"'--out' requires a file with the ending .json, received '{out}'.")
    config.require_source()
    require(filesystem.is_remote(config.root), "root", "a bucket for the artifacts, such as gs://bucket/root",
            config.root)
    for key, path in (("push_to", config.push_to), ("parameters.source", config.parameters.source),
                      ("parameters.schema", config.parameters.schema)):
        require(not path or filesystem.is_remote(path) or os.path.isabs(path), key,
                "a URI, or a path that is mounted wherever a step runs", path)
    require_tfx()
    from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

    from trainer.pipelines.tfx.pipeline import build_pipeline

    with tempfile.TemporaryDirectory() as folder:
        runner = KubeflowV2DagRunner(KubeflowV2DagRunnerConfig(default_image=config.image), output_dir=folder,
                                     output_filename="pipeline.json")
        runner.run(build_pipeline(config))
        job = json.loads(filesystem.read_text(os.path.join(folder, "pipeline.json")))
    # The labels say where it was compiled: version and platform of Python.
    job.get("labels", {}).clear()
    filesystem.write_text(out, json.dumps(job, indent=2, sort_keys=True) + "\n")
    return out
