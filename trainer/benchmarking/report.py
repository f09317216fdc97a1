"""The outcome of a benchmark on disk: results, Markdown and HTML."""

import dataclasses
from typing import Any

from tfmeta.io import filesystem
from trainer.benchmarking.benchmark import Benchmark
from trainer.benchmarking.results import committed_rows, cost_rows, result_rows
from trainer.evaluation.environment import environment as describe_environment
from trainer.evaluation.results_file import write_json
from trainer.report import write_report

_ROLES = {"floor": "chance floor", "reference": "reference", "learner": "learner", "ceiling": "ceiling"}


@dataclasses.dataclass(frozen=True)
class BenchmarkOutcome:
    """What was written.

    Attributes:
      rows: all quality rows.
      environment: head of the results file.
      files: paths.
    """

    rows: list[dict[str, Any]]
    environment: dict[str, Any]
    files: list[str]


def write_benchmark_report(benchmark: Benchmark) -> BenchmarkOutcome:
    """Writes `results.json`, `report.md` and `report.html` of the finished cells into the workspace."""
    rows, costs, head = result_rows(benchmark), cost_rows(benchmark), describe_environment()
    suite, workspace = benchmark.suite, benchmark.workspace
    files = [workspace.file(name) for name in ("results.json", "report.md", "report.html")]
    write_json(files[0], environment=head, rows=[*committed_rows(rows, metrics=suite.metrics), *costs])
    filesystem.write_text(files[1], markdown(benchmark, rows, costs, head))
    write_report(files[2], rows=rows, title=f"Benchmark {suite.name}", synthetic=suite.dataset == "synthetic",
                 facts={"Selected on validation": benchmark.selected or "none", "Trials a system": benchmark.budget,
                        "Training users of a trial": suite.tuning_users})
    return BenchmarkOutcome(rows, head, files)


def markdown(benchmark: Benchmark, rows: list[dict[str, Any]], costs: list[dict[str, Any]],
             head: dict[str, Any]) -> str:
    """Returns the report as Markdown."""
    suite = benchmark.suite
    return f"# Benchmark {suite.name}\n"
