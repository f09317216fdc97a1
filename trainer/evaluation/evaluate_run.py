"""Evaluation of training runs."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfmeta.baselines import baselines_for
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import RunError
from trainer.evaluation.environment import environment as describe_environment
from trainer.evaluation.evaluate import DEFAULT_KS, check_ks, check_support, evaluate
from trainer.evaluation.evaluation import FAMILY_METRICS, Evaluation
from trainer.evaluation.history_scorer import HistoryScorer
from trainer.evaluation.oracle_scorer import OracleScorer
from trainer.evaluation.positives_only import protocol
from trainer.evaluation.references import References, fit_references
from trainer.evaluation.results_file import write_results
from trainer.run_directory import RunDirectory

# More distinct training labels than that are a continuous scale, which has no nearest level.
_MAX_LEVELS = 50


@dataclasses.dataclass(frozen=True)
class RunEvaluation:
    """Outcome of `evaluate_runs`.

    Attributes:
      evaluation: all runs and references together.
      rows: its flat records.
      environment: head of the results file.
      references: the baselines and their hyper-parameters; None if none were asked for.
      synthetic: whether the data are generated.
      task_side: what the tasks are, `user` or `item`.
    """

    evaluation: Evaluation
    rows: list[dict[str, Any]]
    environment: dict[str, Any]
    references: References | None
    synthetic: bool
    task_side: str = "user"


def evaluate_runs(runs: Sequence[str], *, data: str | None = None, tuning_data: str | None = None,
                  states: Sequence[str] | None = None, ks: Sequence[int | str] = DEFAULT_KS,
                  baselines: Sequence[str] | None = None, selected: str | None = None, out: str | None = None,
                  features: str = "full", batch_size: int = 256, catalogue_cutoff: int | None = None,
                  history: bool = False, strict_ks: bool = False,
                  progress: Callable[[str], Any] | None = None) -> RunEvaluation:
    """Evaluates runs on the test tasks of their prepared data, beside tuned baselines, floor and ceilings.

    Writes `evaluation.json`, `evaluation_rows.parquet` and `evaluation.parquet` into every run, and the joint
    result at `out`.

    Args:
      runs: run directories on the same data, each `PATH` or `NAME=PATH`; runs of the same name are training seeds
        of one learner. The default name is the configuration's learner and scope.
      data: the prepared directory if it is no longer where the runs were trained.
      tuning_data: prepared directory with validation tasks for the baselines; default `data`.
      states, ks: what to evaluate.
      baselines: names; default those of the label's unit (`baselines_for`).
      selected: name of the learner chosen on validation; default the only one.
      out: path without an ending for the joint result.
      features: `full` or `genres_only`, for the rows.
      batch_size: tasks adapted at once.
      catalogue_cutoff: also measures recall and NDCG at that cut-off over the whole catalogue, on the first split.
        Where the test tasks' queries hold positives only these stand instead of the list metrics, by default at 20.
      history: also measures every model with the user's training interactions as further support in the item-cold
        state, as `<model>_history`.
      strict_ks: refuse a k that is larger than every support of the test tasks; otherwise all of the support is taken.
      progress: called with a description before every step.

    Raises:
      ConfigError: with `strict_ks`, if a k is larger than every support.
      RunError: if a run is incomplete or was trained on other data, or `selected` names none of them.
    """
    from tfmeta.data.feature_tables import FeatureTables
    from trainer.evaluation.recommender_scorer import RecommenderScorer

    opened = [_open(run) for run in runs]
    names = {name for name, _ in opened}
    if selected is not None and selected not in names:
        raise RunError(f"The selected learner '{selected}' is none of {', '.join(sorted(names))}.")
    selected = selected or (next(iter(names)) if len(names) == 1 else None)
    prepared = PreparedData(data or opened[0][1].data_path)
    for _, run in opened:
        if run.training_fingerprint != prepared.training_fingerprint():
            raise RunError(f"Run '{run.path}' was trained on other data than '{prepared.path}' holds, so its cold "
                           "users may not be cold. Give the directory it was trained on with --data.")
    tasks, spec = prepared.tasks("test"), prepared.feature_spec
    if not len(tasks):
        raise RunError(f"Prepared directory '{prepared.path}' has no test tasks. Prepare it with a test split.")
    ks = check_ks(ks)
    if strict_ks:
        check_support(ks, longest=int(tasks.support_length.max()), of=f"the test tasks of '{prepared.path}'")
    common = {"label": spec.label, "ks": ks, "states": states, "features": features, "progress": progress,
              "levels": label_levels(prepared), **protocol(tasks, prepared, cutoff=catalogue_cutoff)}
    # Only where no others are measured: the family of hypotheses of ratings stays as it is.
    family = common["catalogue"].metrics if common.get("cutoffs") == () else FAMILY_METRICS
    references, scorers = None, []
    chosen = list(baselines_for(spec.label.unit)) if baselines is None else list(baselines)
    if chosen:
        references = fit_references(chosen, prepared, progress=progress, cache=opened[0][1].file("baselines.json"),
                                    tuning_data=PreparedData(tuning_data) if tuning_data else None)
        scorers += references.fitted
    oracles = OracleScorer.from_prepared(prepared, tasks)
    shared = [evaluate([*scorers, *oracles], tasks, **common)]
    history = history and "item_cold" in (tasks.states if states is None else states)

    def remember(models, seed=0):
        models = [HistoryScorer(m, prepared.train) for m in models if m.uses_support]
        return evaluate(models, tasks, **{**common, "states": ("item_cold",)}, seed=seed) if models else Evaluation(())

    if history:
        shared.append(remember(scorers))
    shared = Evaluation.merge(shared)
    results, head = [], describe_environment()
    for name, run in opened:
        tables = FeatureTables.from_prepared(prepared, feature_spec=run.feature_spec)
        scorer = RecommenderScorer(run.recommender(), tables=tables, name=name, selected=name == selected,
                                   batch_size=batch_size)
        own = evaluate([scorer], tasks, seed=run.config.seed, **common)
        if history:
            own = Evaluation.merge([own, remember([scorer], run.config.seed)])
        results.append(own)
        if len(opened) > 1:
            joint = Evaluation.merge([shared, own])
            write_results(run.file("evaluation"), joint, joint.rows(family=family), environment=head)
    evaluation = Evaluation.merge([shared, *results])
    rows = evaluation.rows(family=family)
    if len(opened) == 1:
        write_results(opened[0][1].file("evaluation"), evaluation, rows, environment=head)
    if out is not None:
        write_results(out, evaluation, rows, environment=head)
    return RunEvaluation(evaluation, rows, head, references, bool(oracles), spec.task_side)


def count_steps(prepared_states: int, *, ks: int, runs: int, baselines: int) -> int:
    """Returns about how many times `progress` is called: for a progress bar."""
    return baselines + prepared_states * (2 + baselines * ks + runs * (2 + ks))


def _open(run: str) -> tuple[str, RunDirectory]:
    name, sign, path = run.partition("=")
    directory = RunDirectory.open(path if sign else run)
    if sign:
        return name, directory
    learner = directory.config.learner
    return "_".join([learner.get("name", "maml"), *([learner["scope"]] if learner.get("scope") else [])]), directory


def label_levels(prepared: PreparedData) -> tuple[float, ...] | None:
    """Returns the distinct training labels of a rating scale; None for other units and continuous scales."""
    if prepared.feature_spec.label.unit != "rating":
        return None
    levels = np.unique(prepared.train.label)
    return tuple(float(v) for v in levels) if 0 < len(levels) <= _MAX_LEVELS else None
