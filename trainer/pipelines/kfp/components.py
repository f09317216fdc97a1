"""The steps as components of Kubeflow Pipelines, in containers or in processes here.

Each function is a lightweight component as it stands: Kubeflow Pipelines takes its source out of this file and runs
it with nothing but `kfp.dsl` and the types of its signature in reach. As a container component it lends its signature
only, and `python -m trainer.pipelines.step` does the work of the body.
"""

import functools
import types
from collections.abc import Callable

from google_cloud_pipeline_components.types import artifact_types
from kfp import dsl


def prepare(dataset: str, source: str, schema: str, split: dict, prepared: dsl.Output[dsl.Dataset],
            summary: dsl.Output[dsl.Metrics]):
    """Prepares raw interactions for training and evaluation."""
    from trainer.pipelines.step import get_step

    get_step("prepare")(dataset=dataset, source=source, schema=schema, split=split, prepared=prepared,
                        summary=summary)


def train(config: str, settings: dict, prepared: dsl.Input[dsl.Dataset], run: dsl.Output[dsl.Model],
          metrics: dsl.Output[dsl.Metrics]):
    """Meta-trains a recommender."""
    from trainer.pipelines.step import get_step

    get_step("train")(config=config, settings=settings, prepared=prepared, run=run, metrics=metrics)


def evaluate(ks: str, baselines: str, prepared: dsl.Input[dsl.Dataset], run: dsl.Input[dsl.Model],
             evaluated: dsl.Output[dsl.Model], metrics: dsl.Output[dsl.Metrics], report: dsl.Output[dsl.HTML]):
    """Evaluates the run on users and items that training never saw."""
    from trainer.pipelines.step import get_step

    get_step("evaluate")(ks=ks, baselines=baselines, prepared=prepared, run=run, evaluated=evaluated,
                         metrics=metrics, report=report)


def gate(states: str, evaluated: dsl.Input[dsl.Model], verdict: dsl.Output[dsl.Metrics], passed: dsl.OutputPath(str)):
    """Decides whether the evaluation speaks for exporting the run."""
    from trainer.pipelines.step import get_step

    get_step("gate")(states=states, evaluated=evaluated, verdict=verdict, passed=passed)


def export(serving: str, serving_image: str, default_signature: str, item_features: str, support_bound: int,
           top_k: int, evaluated: dsl.Input[dsl.Model], prepared: dsl.Input[dsl.Dataset],
           model: dsl.Output[artifact_types.UnmanagedContainerModel]):
    """Exports a verified SavedModel with the container that serves it."""
    from trainer.pipelines.step import get_step

    get_step("export")(serving=serving, serving_image=serving_image, default_signature=default_signature,
                       item_features=item_features, support_bound=support_bound, top_k=top_k, evaluated=evaluated,
                       prepared=prepared, model=model)


def batch_score(mode: str, interactions: list, candidates: list, users: list, beam_options: list,
                model: dsl.Input[artifact_types.UnmanagedContainerModel], scores: dsl.Output[dsl.Dataset],
                summary: dsl.Output[dsl.Metrics]):
    """Scores users in bulk with the exported model."""
    from trainer.pipelines.step import get_step

    get_step("batch_score")(mode=mode, interactions=interactions, candidates=candidates, users=users,
                            beam_options=beam_options, model=model, scores=scores, summary=summary)


FUNCTIONS = (prepare, train, evaluate, gate, export, batch_score)


def container_components(image: str, *, train_image: str | None = None) -> types.SimpleNamespace:
    """Returns the components by name, each run in a container.

    Args:
      image: with this package.
      train_image: of the training step, if it is another.
    """
    return types.SimpleNamespace(**{
        function.__name__: _container(function, (train_image or image) if function is train else image)
        for function in FUNCTIONS})


def local_components() -> types.SimpleNamespace:
    """Returns the components by name, each run in a process of this environment by `kfp.local`."""
    return types.SimpleNamespace(**{
        function.__name__: dsl.component(function, base_image="python:3.11", install_kfp_package=False)
        for function in FUNCTIONS})


def _container(function: Callable, image: str):
    @functools.wraps(function)
    def component(*args, **kwargs):
        return dsl.ContainerSpec(
            image=image, command=["python", "-m", "trainer.pipelines.step"],
            args=[function.__name__, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER])

    return dsl.container_component(component)
