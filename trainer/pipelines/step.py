"""Entry point of a pipeline's containers: `python -m trainer.pipelines.step NAME --executor-input JSON`.

The JSON is the executor input of Kubeflow Pipelines v2 and Vertex AI Pipelines, which the engine puts in for `{{$}}`:
parameters, artifacts, and where to write the metadata of outputs.
"""

import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfmeta.cli import CommandParser
from tfmeta.errors import ConfigError, TfmetaError
from tfmeta.quiet import quiet_tensorflow
from trainer.pipelines.step_artifact import StepArtifact
from trainer.pipelines.steps.prepare import whole

STEPS = ("prepare", "train", "evaluate", "gate", "export", "batch_score")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a step; returns 0, or 2 after an error that is the caller's to mend."""
    parser = CommandParser(prog="python -m trainer.pipelines.step", description=__doc__.split("\n\n", 1)[1])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--executor-input", required=True, metavar="JSON", help="what the engine puts in for {{$}}")
    args = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    quiet_tensorflow()
    try:
        run_step(args.step, _parse(args.executor_input))
    except TfmetaError as error:
        print(f"{args.step}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def get_step(name: str) -> Callable[..., None]:
    """Returns the function of a step."""
    return getattr(importlib.import_module(f"trainer.pipelines.steps.{name}"), name)


def run_step(name: str, executor_input: Mapping[str, Any]) -> None:
    """Runs a step on an executor input, and writes the executor output where that asks for it."""
    inputs, outputs = executor_input.get("inputs", {}), executor_input.get("outputs", {})
    made = {key: _artifact(value) for key, value in outputs.get("artifacts", {}).items()}
    get_step(name)(**whole(inputs.get("parameterValues", {})),
                   **{key: _artifact(value) for key, value in inputs.get("artifacts", {}).items()}, **made,
                   **{key: value["outputFile"] for key, value in outputs.get("parameters", {}).items()})
    if "outputFile" in outputs:
        records = {key: {"artifacts": [{**_only(outputs["artifacts"][key]), "metadata": artifact.metadata}]}
                   for key, artifact in made.items()}
        write_output(outputs["outputFile"], json.dumps({"artifacts": records}))


def write_output(path: str, text: str) -> None:
    """Writes a file that the engine reads when the step has ended, in place: its mount may know no rename."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _parse(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"'--executor-input' requires JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise ConfigError(f"'--executor-input' requires a JSON object, received {type(parsed).__name__}.")
    return parsed


def _artifact(value: Mapping[str, Any]) -> StepArtifact:
    only = _only(value)
    return StepArtifact(StepArtifact.path_of(only["uri"]), dict(only.get("metadata", {})))


def _only(value: Mapping[str, Any]) -> dict[str, Any]:
    (record,) = value["artifacts"]
    return dict(record)


if __name__ == "__main__":
    raise SystemExit(main())
