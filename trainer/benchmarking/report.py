"""The outcome of a benchmark on disk: results, Markdown with its plots, HTML."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tfmeta.io import filesystem
from trainer.benchmarking import figures
from trainer.benchmarking.benchmark import Benchmark
from trainer.benchmarking.markdown import markdown
from trainer.benchmarking.results import committed_rows, cost_rows, result_rows
from trainer.evaluation.environment import environment as describe_environment
from trainer.evaluation.results_file import write_json
from trainer.report import write_report
from trainer.report.figures import png, svg
from trainer.report.result_rows import ResultRows


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


def write_benchmark_report(benchmark: Benchmark, *, left_out: Mapping[str, str] | None = None) -> BenchmarkOutcome:
    """Writes `results.json`, `report.md` with PNGs beside it, and `report.html` of the finished cells.

    Args:
      benchmark: whose workspace is read and written.
      left_out: system -> why it is not in it.
    """
    rows, costs, head = result_rows(benchmark), cost_rows(benchmark), describe_environment()
    suite, workspace = benchmark.suite, benchmark.workspace
    results, page, text = (workspace.file(name) for name in ("results.json", "report.html", "report.md"))
    write_json(results, environment=head, rows=[*committed_rows(rows, metrics=suite.metrics), *costs])
    table = ResultRows.of(rows)
    by_system, families = figures.system_costs(costs), {s.name: s.family for s in benchmark.systems}
    metric = suite.metrics[0]
    drawings = {"k_shot": ("k-shot curves", figures.k_shot(table, metric)),
                "pareto": ("Quality against cost", figures.pareto(table, by_system, families, metric)),
                "gain": ("Gain from adaptation, all learners", figures.gains(table, metric))}
    written, sections = {}, []
    for key, (heading, drawing) in drawings.items():
        if drawing is None:
            continue
        draw, size, alt = drawing
        written[key] = (f"{key}.png", alt)
        filesystem.write_bytes(workspace.file(f"{key}.png"), png(draw, size=size))
        sections.append((heading, f"<figure style='max-width:none'>{svg(draw, size=size, alt=alt, key=key)}</figure>"))
    filesystem.write_text(text, markdown(benchmark, table, costs, head, figures=written, left_out=left_out or {}))
    # All ks of all learners are in the curves; the tables have the ends.
    shown = [r for r in rows if r["metric"].removeprefix("gain_") in (*suite.metrics, "mae_median", "rmse", "logloss")
             and (r["seed"] == "mean" or r["seeds"] == 1)
             and (r["role"] != "learner" or r["selected"] or r["k"] in (0, "all"))]
    write_report(page, rows=shown, title=f"Benchmark: {suite.name}", synthetic=suite.dataset == "synthetic",
                 sections=sections, metrics=suite.metrics,
                 facts={f"Selected {benchmark.selected_how}": benchmark.selected or "none",
                        "Trials a system": benchmark.budget,
                        "Training users of a trial": benchmark.data.subset.summary["training_users"],
                        "Command": head["command"], "Machine": f"{head['processor']}, {head['threads']} threads"})
    return BenchmarkOutcome(rows, head, [results, page, text, *(workspace.file(n) for n, _ in written.values())])


def copy_results(benchmark: Benchmark, *, folder: str) -> list[str]:
    """Copies results and report to a folder, named after the suite: `learners_<suite>.json`, `.md` and PNGs.

    Returns:
      the paths.
    """
    name, workspace = benchmark.suite.name.replace("-", "_"), benchmark.workspace
    target = filesystem.join(folder, f"learners_{name}")
    text = filesystem.read_text(workspace.file("report.md"))
    written = []
    for key in ("k_shot", "pareto", "gain"):
        if filesystem.exists(workspace.file(f"{key}.png")):
            text = text.replace(f"]({key}.png)", f"](learners_{name}_{key}.png)")
            written.append(f"{target}_{key}.png")
            filesystem.write_bytes(written[-1], filesystem.read_bytes(workspace.file(f"{key}.png")))
    for ending, content in ((".json", filesystem.read_text(workspace.file("results.json"))), (".md", text)):
        filesystem.write_text(f"{target}{ending}", content)
        written.append(f"{target}{ending}")
    return [os.path.normpath(path) for path in written]
