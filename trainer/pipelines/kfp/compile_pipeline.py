"""From a configuration to the pipeline's YAML."""

import json
import os
import re
import tempfile

from tfmeta.errors import ConfigError
from tfmeta.io import filesystem
from trainer.pipelines.kfp.pipeline_config import PipelineConfig


def compile_pipeline(config: PipelineConfig, *, out: str) -> str:
    """Writes the pipeline as container components; the same configuration gives the same bytes.

    Args:
      config: what is compiled.
      out: the YAML file, on any file system.

    Returns:
      `out`.

    Raises:
      ConfigError: if Kubeflow Pipelines is not installed, or the file has another ending than `.yaml`.
    """
    if not out.endswith((".yaml", ".yml")):
        raise ConfigError(f"'--out' requires a file with the ending .yaml, received '{out}'.")
    require_kfp()
    from kfp import compiler

    from trainer.pipelines.kfp.components import container_components
    from trainer.pipelines.kfp.pipeline import build_pipeline

    pipeline = build_pipeline(config, components=container_components(config.image, train_image=config.train_image))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pipeline.yaml")
        compiler.Compiler().compile(pipeline, path)
        filesystem.write_text(out, _canonical(filesystem.read_text(path), config))
    return out


def _canonical(text: str, config: PipelineConfig) -> str:
    """Returns the YAML with the mappings in its head in order: their order there is that of a hash of this process."""
    for name, value in config.parameters.values().items():
        if isinstance(value, dict):
            shown = f"#    {name}: dict [Default: {json.dumps(value, sort_keys=True)}]"
            text = re.sub(rf"^#    {name}: dict \[Default: .*$", lambda _, line=shown: line, text, count=1, flags=re.M)
    return text


def require_kfp() -> None:
    """Raises ConfigError unless Kubeflow Pipelines and Google's component types can be imported."""
    try:
        import google_cloud_pipeline_components  # noqa: F401
        import kfp  # noqa: F401
    except ImportError:
        raise ConfigError("Pipelines require kfp and google-cloud-pipeline-components. Install them with: "
                          "pip install 'tfmeta[kfp]'") from None
