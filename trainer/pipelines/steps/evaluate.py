"""The step from a training run to an evaluated one."""

from tfmeta.io import filesystem


def evaluate(*, ks: str, baselines: str, prepared, run, evaluated, metrics, report) -> None:
    """Evaluates a run on the test tasks, beside tuned baselines.

    Args:
      ks: numbers of support rows, comma-separated, or `all`.
      baselines: names, comma-separated; empty for those of the label's unit, `none` for none.
      prepared: the prepared directory of the run.
      run: the run; it is left as it is.
      evaluated: gets a copy of the run with its evaluation.
      metrics: gets the learner's figures with the whole support, by state.
      report: gets the page.

    Raises:
      ConfigError, DataError, RunError: as `evaluate_runs` does.
    """
    from trainer.commands.evaluate import parse_ks, parse_names
    from trainer.evaluation.evaluate_run import evaluate_runs
    from trainer.evaluation.positives_only import METRICS
    from trainer.report import write_run_report
    from trainer.report.result_rows import ResultRows

    filesystem.remove_tree(evaluated.path)
    # Last what says that a run is complete: a copy that was cut off is none.
    filesystem.copy_tree(run.path, evaluated.path, last=("run.json",))
    names = None if not baselines else [] if baselines == "none" else parse_names(baselines)
    result = evaluate_runs([evaluated.path], data=prepared.path, ks=parse_ks(ks), baselines=names)
    write_run_report(evaluated.path, path=report.path, title="Evaluation", synthetic=result.synthetic)
    evaluated.metadata |= run.metadata
    table = ResultRows.of(result.rows)
    for state in table.states:
        for model in table.models(state, "learner"):
            for name in ("auc", "ndcg@5", "mae", *METRICS):
                curve = table.curve(state, model, name)
                if curve:
                    metrics.metadata[f"{state}_{name.replace('@', '_at_')}"] = float(curve[-1]["value"])
