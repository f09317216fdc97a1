"""How the components are wired."""

import types

from kfp import dsl

from trainer.pipelines.kfp.pipeline_config import PipelineConfig, ResourcesConfig

DESCRIPTION = "Prepares interactions, meta-trains, evaluates and, if the gate is passed, exports and scores."


def build_pipeline(config: PipelineConfig, *, components: types.SimpleNamespace):
    """Returns the pipeline for an engine.

    Args:
      config: the defaults of its parameters, and what is fixed.
      components: of `container_components`.
    """
    fixed, default = config, types.SimpleNamespace(**config.parameters.values())

    @dsl.pipeline(name=fixed.name, description=DESCRIPTION)
    def pipeline(
            dataset: str = default.dataset, source: str = default.source, schema: str = default.schema,
            split: dict = default.split, config: str = default.config, train: dict = default.train,
            ks: str = default.ks, baselines: str = default.baselines, gate_states: str = default.gate_states,
            serving: str = default.serving, serving_image: str = default.serving_image,
            default_signature: str = default.default_signature, item_features: str = default.item_features,
            support_bound: int = default.support_bound, top_k: int = default.top_k,
            batch_mode: str = default.batch_mode, batch_interactions: list = default.batch_interactions,
            batch_candidates: list = default.batch_candidates, batch_users: list = default.batch_users,
            beam_options: list = default.beam_options):
        p = types.SimpleNamespace(**{name: value for name, value in locals().items() if hasattr(default, name)})
        tasks = wire_judgement(components, p)
        for task in (tasks.prepared, tasks.evaluated, tasks.gated):
            _resources(task, fixed.resources)
        _resources(tasks.trained, fixed.train_resources)
        # The engine knows the source by its name only; what lies there may be new.
        tasks.prepared.set_caching_options(False)
        with dsl.If(tasks.gated.outputs["passed"] == "true", name="gate-passed"):
            exported = wire_export(components, p, evaluated=tasks.evaluated.outputs["evaluated"],
                                   prepared=tasks.prepared.outputs["prepared"])
            _resources(exported, fixed.resources)
            if fixed.upload.project:
                _upload(exported, fixed)
            with dsl.If(batch_mode != "none", name="batch-asked-for"):
                scored = wire_batch(components, p, model=exported.outputs["model"])
                _resources(scored, fixed.batch_resources)
                scored.set_caching_options(False)

    return pipeline


def wire_judgement(components: types.SimpleNamespace, p: types.SimpleNamespace) -> types.SimpleNamespace:
    """Adds the steps up to the gate to the pipeline being built, and returns their tasks.

    Args:
      components: by name.
      p: parameters by name: channels of the pipeline, or values.
    """
    prepared = components.prepare(dataset=p.dataset, source=p.source, schema=p.schema, split=p.split)
    trained = components.train(config=p.config, settings=p.train, prepared=prepared.outputs["prepared"])
    evaluated = components.evaluate(ks=p.ks, baselines=p.baselines, prepared=prepared.outputs["prepared"],
                                    run=trained.outputs["run"])
    gated = components.gate(states=p.gate_states, evaluated=evaluated.outputs["evaluated"])
    return types.SimpleNamespace(prepared=prepared, trained=trained, evaluated=evaluated, gated=gated)


def wire_export(components: types.SimpleNamespace, p: types.SimpleNamespace, *, evaluated, prepared):
    """Adds the export, and returns its task."""
    return components.export(
        serving=p.serving, serving_image=p.serving_image, default_signature=p.default_signature,
        item_features=p.item_features, support_bound=p.support_bound, top_k=p.top_k, evaluated=evaluated,
        prepared=prepared)


def wire_batch(components: types.SimpleNamespace, p: types.SimpleNamespace, *, model):
    """Adds batch scoring, and returns its task."""
    return components.batch_score(
        mode=p.batch_mode, interactions=p.batch_interactions, candidates=p.batch_candidates, users=p.batch_users,
        beam_options=p.beam_options, model=model)


def _resources(task, resources: ResourcesConfig) -> None:
    if resources.cpus:
        task.set_cpu_limit(str(resources.cpus))
    if resources.memory_gib:
        task.set_memory_limit(f"{resources.memory_gib}Gi")
    if resources.accelerators:
        task.set_accelerator_type(resources.accelerator)
        task.set_accelerator_limit(resources.accelerators)


def _upload(exported, config: PipelineConfig) -> None:
    from google_cloud_pipeline_components.v1.model import ModelUploadOp

    ModelUploadOp(project=config.upload.project, location=config.upload.location,
                  display_name=config.upload.display_name, unmanaged_container_model=exported.outputs["model"])
