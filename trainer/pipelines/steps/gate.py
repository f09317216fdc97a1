"""The step that decides whether an evaluated run is exported."""

import json
import logging

from tfmeta.errors import ExportError
from tfmeta.io import filesystem

_LOG = logging.getLogger("trainer.pipelines")


def gate(*, states: str, evaluated, verdict, passed: str) -> None:
    """Judges an evaluation, see `export.gate.check`.

    Args:
      states: to judge, comma-separated; empty for all that were evaluated.
      evaluated: an evaluated run.
      verdict: gets the number of comparisons, how many were lost and which.
      passed: file that gets `true` or `false`.

    Raises:
      ConfigError: on an unknown state.
      ExportError: if the evaluation lacks what the gate needs.
    """
    from export.gate import check
    from trainer.commands.evaluate import parse_names
    from trainer.pipelines.step import write_output

    path = filesystem.join(evaluated.path, "evaluation.json")
    if not filesystem.exists(path):
        raise ExportError(f"The gate requires an evaluated run, '{evaluated.path}' has no evaluation.json.")
    result = check(json.loads(filesystem.read_text(path)), states=parse_names(states) or None)
    verdict.metadata |= {"passed": int(result.passed), "comparisons": len(result.comparisons),
                         "lost": len(result.reasons)}
    if result.reasons:
        verdict.metadata["reasons"] = "; ".join(result.reasons)
        _LOG.warning("The gate keeps the run back: %s", "; ".join(result.reasons))
    write_output(passed, "true" if result.passed else "false")
