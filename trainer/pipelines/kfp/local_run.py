"""The pipeline in processes of this environment."""

import dataclasses
import json
import types

from trainer.pipelines.kfp.compile_pipeline import require_kfp
from trainer.pipelines.kfp.pipeline_config import PipelineConfig


@dataclasses.dataclass(frozen=True)
class LocalRun:
    """What a run of the pipeline has left.

    Attributes:
      passed: whether the gate was passed.
      report: HTML file of the evaluation.
      verdict: metadata of the gate.
      model: path of the exported model; None if the gate kept it back.
      model_metadata: its metadata.
      scores: directory of the batch scores; None where none were asked for.
    """

    passed: bool
    report: str
    verdict: dict
    model: str | None = None
    model_metadata: dict | None = None
    scores: str | None = None


def run_local(config: PipelineConfig, *, root: str) -> LocalRun:
    """Runs the pipeline under `kfp.local`: the functions of the containers, one process a step, without Docker.

    The gate is decided between two pipelines, the second of which imports what the first has made: `kfp.local` takes
    every condition on a step's output for false (2.16).

    Args:
      config: with the parameters; images, resources and upload mean nothing here.
      root: directory that gets the artifacts, `root/<pipeline and time>/<step>/<artifact>`.

    Raises:
      ConfigError: if Kubeflow Pipelines is not installed.
      RuntimeError: if a step fails; its output, with the reason, is in the log.
    """
    require_kfp()
    from kfp import local

    from trainer.pipelines.kfp.components import local_components

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
    components, p = local_components(), types.SimpleNamespace(**config.parameters.values())
    judged = _judgement(config.name, components, p).outputs
    run = LocalRun(passed=judged["passed"] == "true", report=judged["report"].path,
                   verdict=dict(judged["verdict"].metadata))
    if not run.passed:
        return run
    released = _release(f"{config.name}-release", components, p, judged=judged).outputs
    return dataclasses.replace(run, model=released["model"].path, model_metadata=dict(released["model"].metadata),
                               scores=released["scores"].path if "scores" in released else None)


def _judgement(name: str, components: types.SimpleNamespace, p: types.SimpleNamespace):
    from typing import NamedTuple

    from kfp import dsl

    from trainer.pipelines.kfp.pipeline import wire_judgement

    class Outputs(NamedTuple):
        passed: str
        prepared: dsl.Dataset
        evaluated: dsl.Model
        report: dsl.HTML
        verdict: dsl.Metrics

    @dsl.pipeline(name=name)
    def judgement() -> Outputs:
        tasks = wire_judgement(components, p)
        return Outputs(passed=tasks.gated.outputs["passed"], prepared=tasks.prepared.outputs["prepared"],
                       evaluated=tasks.evaluated.outputs["evaluated"], report=tasks.evaluated.outputs["report"],
                       verdict=tasks.gated.outputs["verdict"])

    return judgement()


def _release(name: str, components: types.SimpleNamespace, p: types.SimpleNamespace, *, judged: dict):
    from typing import NamedTuple

    from google_cloud_pipeline_components.types.artifact_types import UnmanagedContainerModel
    from kfp import dsl

    from trainer.pipelines.kfp.pipeline import wire_batch, wire_export

    batch = p.batch_mode != "none"
    outputs = NamedTuple("outputs", [("model", UnmanagedContainerModel), *([("scores", dsl.Dataset)] * batch)])

    @dsl.pipeline(name=name)
    def release() -> outputs:
        imported = {key: dsl.importer(artifact_uri=judged[key].uri, artifact_class=type(judged[key]),
                                      metadata=json.loads(json.dumps(judged[key].metadata))).output
                    for key in ("evaluated", "prepared")}
        exported = wire_export(components, p, **imported)
        made = {"model": exported.outputs["model"]}
        if batch:
            made["scores"] = wire_batch(components, p, model=exported.outputs["model"]).outputs["scores"]
        return outputs(**made)

    return release()
