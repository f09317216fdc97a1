"""Evaluation and gate between a Trainer and a Pusher."""

import json

from tfmeta.io import filesystem
from trainer.pipelines.step_artifact import StepArtifact
from trainer.pipelines.steps.evaluate import evaluate
from trainer.pipelines.tfx.run_fn import PREPARED, RUN

BLESSED, NOT_BLESSED = "BLESSED", "NOT_BLESSED"


def judge(model_run: str, *, evaluation: str, blessing: str, ks: str, baselines: str, gate_states: str) -> list[str]:
    """Evaluates a run and decides whether its model is to be served.

    Args:
      model_run: what `run_fn` has left.
      evaluation: gets `run/` with its evaluation, and `report.html`.
      blessing: gets an empty file `BLESSED`, or `NOT_BLESSED` with a reason in each line.
      ks, baselines, gate_states: as of the steps evaluate and gate.

    Returns:
      why the model is kept back; empty if it is not.

    Raises:
      ConfigError, DataError, ExportError, RunError: as evaluation and gate do.
    """
    from export.gate import check
    from trainer.commands.evaluate import parse_names

    evaluated = StepArtifact(filesystem.join(evaluation, RUN))
    evaluate(ks=ks, baselines=baselines, prepared=StepArtifact(filesystem.join(model_run, PREPARED)),
             run=StepArtifact(filesystem.join(model_run, RUN)), evaluated=evaluated, metrics=StepArtifact(evaluation),
             report=StepArtifact(filesystem.join(evaluation, "report.html")))
    rows = json.loads(filesystem.read_text(filesystem.join(evaluated.path, "evaluation.json")))
    reasons = list(check(rows, states=parse_names(gate_states) or None).reasons)
    for name in (BLESSED, NOT_BLESSED):
        filesystem.remove_tree(filesystem.join(blessing, name))
    filesystem.write_text(filesystem.join(blessing, NOT_BLESSED if reasons else BLESSED),
                          "".join(f"{reason}\n" for reason in reasons))
    return reasons
