"""Implicit feedback without negatives: what is trained by default, how it is validated, and what is refused."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import yaml
from tiny_prepared import SMALL, write_tiny

from export import gate
from tfmeta import cli
from tfmeta.baselines import build_baseline
from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.task_set import TaskSet
from tfmeta.errors import ConfigError, ExportError, RunError
from trainer.config import ValidationConfig, load_config
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.evaluate_run import evaluate_runs
from trainer.evaluation.positives_only import catalogue_of, default_metric
from trainer.evaluation.recommender_scorer import RecommenderScorer
from trainer.evaluation.table import format_table
from trainer.loop import train
from trainer.outer_step import OuterStep
from trainer.pipelines.step_artifact import StepArtifact
from trainer.pipelines.steps.evaluate import evaluate
from trainer.report import write_run_report
from trainer.resolve_learner import resolve_learner
from trainer.run_directory import RunDirectory
from trainer.validation import Validation

SAMPLER = {"query_size": 2, "min_interactions": 3, "meta_batch_size": 8}
CHOSEN = {"name": "ridge", "inner_loss": "squared_error", "outer_loss": "softmax"}


def run(data, path, **changes):
    return train(config=load_config(SMALL | {"sampler": SAMPLER} | changes), data=data, run=str(path), progress=False)


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("visits") / "data", unit="click", positives_only=True)


@pytest.fixture(scope="module")
def trained(visits, tmp_path_factory):
    path = tmp_path_factory.mktemp("visits") / "run"
    return run(visits, path, learner={}, epochs=12, optimizer={"learning_rate": 0.05}), RunDirectory.open(str(path))


def test_the_default_learner_compares_positives_with_all_items(trained):
    result, directory = trained
    assert directory.config.learner == CHOSEN
    losses = [record["train_loss"] for record in result.history]
    assert losses[-1] < losses[0] - 0.2
    best = max(record["val_ndcg@20"] for record in result.history)
    assert result.metric == "val_ndcg@20" and result.best == best
    assert best > max(record["val_base_ndcg@20"] for record in result.history[:1])


@pytest.mark.parametrize(("strays", "said"), [(0, False), (1, True), (60, False)])
def test_a_stray_label_that_changes_the_default_learner_is_named(strays, said, tmp_path, caplog):
    prepared = PreparedData(write_tiny(tmp_path / "data", unit="click", positives_only=True, strays=strays))
    learner = resolve_learner(load_config(SMALL | {"learner": {}}), prepared).learner
    number = prepared.training_rows.num_rows
    assert learner.get("outer_loss") == (None if strays else "softmax")
    assert any(f"Only {strays} of {number} training labels" in line for line in caplog.messages) == said
    assert len(caplog.messages) == said


def test_validation_is_the_catalogues_measure_of_the_evaluation(trained, visits):
    result, directory = trained
    prepared = PreparedData(visits)
    tasks = prepared.tasks("validation")
    recommender = directory.recommender()
    scorer = RecommenderScorer(recommender, tables=FeatureTables.from_prepared(prepared))
    catalogue = Catalogue(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items),
                          label=prepared.feature_spec.label)
    measured = catalogue.measure(scorer, tasks, part=tasks)
    best = result.history[result.best_epoch - 1]
    for name, values in measured.items():
        assert best[f"val_{name}"] == best[f"val_user_cold_{name}"] == pytest.approx(np.nanmean(values), abs=1e-6)
    unadapted = catalogue.measure(scorer, tasks.truncate(0), part=tasks)
    assert best["val_base_ndcg@20"] == pytest.approx(np.nanmean(unadapted["ndcg@20"]), abs=1e-6)


def test_rows_of_some_users_are_those_rows(visits):
    prepared = PreparedData(visits)
    everything = prepared.train
    users = np.array([3, 7, 11, 10_000])
    some, mask = prepared.training_rows.of_users(users), np.isin(everything.user_row, users)
    assert mask.sum() > 0
    for column in ("user_row", "item_row", "label"):
        np.testing.assert_array_equal(getattr(some, column), getattr(everything, column)[mask])
    assert len(prepared.training_rows.of_users(users[3:])) == 0


@pytest.mark.parametrize("learner", [{"outer_loss": "pairwise"}, {"name": "maml"}, {"name": "joint"},
                                     {"name": "bayesian", "outer_loss": "squared_error"}])
def test_a_loss_that_would_learn_nothing_is_refused_before_training(visits, tmp_path, learner):
    with pytest.raises(ConfigError, match=r"training set of positive ones alone.*sampler.negatives=50"):
        run(visits, tmp_path / "run", learner=learner)
    assert not (tmp_path / "run").exists()


def test_negatives_and_models_without_an_index_keep_the_loss_of_their_label(visits, tmp_path):
    run(visits, tmp_path / "a", learner={}, epochs=1, sampler=SAMPLER | {"negatives": 3})
    assert RunDirectory.open(str(tmp_path / "a")).config.learner == {"name": "ridge"}
    embedding = {"name": "embedding", "embedding_dim": 4, "units": [4]}
    with pytest.raises(ConfigError, match="binary_cross_entropy"):
        run(visits, tmp_path / "b", learner={}, model=embedding)
    run(visits, tmp_path / "c", learner={"inner_steps": 1}, epochs=1)
    assert RunDirectory.open(str(tmp_path / "c")).config.learner == {
        "name": "maml", "outer_loss": "softmax", "inner_steps": 1}


def test_negatives_among_the_validation_queries_are_ranked_against(tmp_path):
    prepared = PreparedData(write_tiny(tmp_path / "data", unit="click"))
    label, tasks = prepared.feature_spec.label, prepared.tasks("validation")
    assert default_metric(tasks, label) == "auc"
    assert default_metric(tasks.select(np.zeros(len(tasks), bool)), label) == "auc"


def test_at_another_k_validation_still_ranks_what_the_whole_support_leaves(trained, visits):
    _, directory = trained
    prepared = PreparedData(visits)
    recommender, tasks = directory.recommender(), prepared.tasks("validation")
    tables = FeatureTables.from_prepared(prepared)
    values = Validation(tasks, recommender=recommender, tables=tables, config=ValidationConfig(k=2), seed=0,
                        training=prepared.training_rows)()
    scorer = RecommenderScorer(recommender, tables=tables)
    wanted = catalogue_of(prepared).measure(scorer, tasks.truncate(2), part=tasks)["ndcg@20"]
    other = catalogue_of(prepared).measure(scorer, tasks.truncate(2), part=tasks.truncate(2))["ndcg@20"]
    assert values["val_ndcg@20"] == pytest.approx(np.nanmean(wanted), abs=1e-6) != np.nanmean(other)


def test_of_several_splits_validation_draws_its_tasks_from_the_one_that_it_measures(trained, visits):
    _, directory = trained
    prepared = PreparedData(visits)
    tasks = prepared.tasks("validation")
    count = len(tasks)
    both = TaskSet(**{field.name: np.concatenate([getattr(tasks, field.name)] * 2)
                      for field in dataclasses.fields(tasks)})
    both = dataclasses.replace(both, split=np.repeat(np.array([0, 1], both.split.dtype), count))
    values = [Validation(part, recommender=directory.recommender(), tables=FeatureTables.from_prepared(prepared),
                         config=ValidationConfig(max_tasks=count), seed=0, training=prepared.training_rows)()
              for part in (tasks, both)]
    assert values[0] == values[1]


@pytest.fixture(scope="module")
def evaluated(trained):
    _, directory = trained
    return evaluate_runs([directory.path]), directory


def test_evaluation_is_over_the_whole_catalogue(evaluated, visits):
    result, directory = evaluated
    learner = {(r["metric"], r["k"]): r for r in result.rows if r["role"] == "learner"}
    prepared = PreparedData(visits)
    tasks = prepared.tasks("test")
    scorer = RecommenderScorer(directory.recommender(), tables=FeatureTables.from_prepared(prepared))
    for k in (0, 5, "all"):
        measured = catalogue_of(prepared).measure(scorer, tasks.truncate(None if k == "all" else k), part=tasks)
        for name, values in measured.items():
            assert learner[name, k]["value"] == pytest.approx(np.nanmean(values), abs=1e-6)
    # What positives alone say nothing of is not there; both that do are a family of hypotheses of the selected learner.
    assert not {"auc", "ndcg@5", "mrr"} & {r["metric"] for r in result.rows}
    assert learner["ndcg@20", "all"]["p_value"] is not None
    text = format_table(result.rows)
    assert "NDCG@20" in text.splitlines()[1] and "recall@20" in text.splitlines()[1]
    best = learner["ndcg@20", "all"]["value"]
    assert f"{best:.4f}" in text and "AUC" not in text
    assert "NDCG@20" in (directory_text := pathlib.Path(write_run_report(directory.path)).read_text("utf-8"))
    assert "MRR" not in directory_text


def test_baselines_are_tuned_by_what_they_are_judged_by(evaluated, visits):
    result, _ = evaluated
    prepared = PreparedData(visits)
    grid = build_baseline("item_knn_implicit").grid()
    tasks = prepared.tasks("validation")
    values = [np.nanmean(catalogue_of(prepared).measure(
        build_baseline("item_knn_implicit", **params).fit(prepared), tasks, part=tasks)["ndcg@20"]) for params in grid]
    assert len(set(values)) > 1 and len(grid) <= 12
    assert result.references.params["item_knn_implicit"] == grid[int(np.argmax(values))]


def test_the_gate_asks_for_more_than_popularity_and_no_adaptation(evaluated):
    result, _ = evaluated
    found = gate.check(result.rows)
    assert found.baseline == "popularity"
    assert {c["metric"] for c in found.comparisons} == {"ndcg@20"} and len(found.comparisons) == 2
    value = {m: next(r["value"] for r in result.rows if (r["model"], r["metric"], r["k"]) == (m, "ndcg@20", "all"))
             for m in ("popularity", "ridge")}
    assert found.passed == all(c["adapted"] > c["other"] for c in found.comparisons)
    for worse in ("popularity", "unadapted"):
        rows = [dict(r) for r in result.rows]
        for row in rows:
            if row["metric"] == "ndcg@20" and (row["model"] == worse if worse == "popularity" else
                                               row["role"] == "learner" and row["k"] == 0):
                row["value"] = value["ridge"] + 0.01
            elif row["metric"] == "ndcg@20" and row["k"] != "all":
                row["value"] = 0.0
        lost = [c["opponent"] for c in gate.check(rows).comparisons if not c["passed"]]
        assert worse in lost
    others = [r for r in result.rows if r["model"] != "popularity"]
    with pytest.raises(ExportError, match=r"bias baseline \(popularity\)"):
        gate.check(others)


def test_the_pipelines_step_reports_it(trained, visits, tmp_path):
    _, directory = trained
    artifacts = {name: StepArtifact(str(tmp_path / name)) for name in ("evaluated", "metrics", "report")}
    evaluate(ks="0,5,all", baselines="popularity", prepared=StepArtifact(visits), run=StepArtifact(directory.path),
             **artifacts)
    assert set(artifacts["metrics"].metadata) == {"user_cold_ndcg_at_20", "user_cold_recall_at_20"}


def test_tuning_goes_by_the_catalogue(visits, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(SMALL | {"sampler": SAMPLER, "epochs": 2, "learner": {}}))
    command = ["tune", "--data", visits, "--config", str(config), "--budget", "2"]
    assert cli.main([*command, "--out", str(tmp_path / "tuned"), "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["criterion"] == "ndcg@20" and all(0 < t["value"] < 1 for t in outcome["trials"])
    assert outcome["value"] == max(t["value"] for t in outcome["trials"])
    assert cli.main([*command, "--out", str(tmp_path / "other"), "--metric", "auc"]) != 0
    assert "hold positives only, of which auc says nothing. Use ndcg@20 or recall@20" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert cli.main([*command, "--print-vertex-study", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == [{"metricId": "val_ndcg@20", "goal": "MAXIMIZE"}]


def test_a_run_keeps_the_learner_that_was_chosen_for_it(trained, visits, tmp_path, monkeypatch):
    _, directory = trained
    before = pathlib.Path(directory.path, "config.yaml").read_text("utf-8")
    monkeypatch.setattr("tfmeta.models.default_learner.default_learner",
                        lambda *_, **__: {"name": "maml", "outer_loss": "softmax"})
    settings = {"learner": {}, "epochs": 12, "optimizer": {"learning_rate": 0.05}}
    again = train(config=load_config(SMALL | {"sampler": SAMPLER} | settings), data=visits, run=directory.path,
                  progress=False, resume=True)
    assert again.hash == trained[0].hash and before == pathlib.Path(directory.path, "config.yaml").read_text("utf-8")
    with pytest.raises(RunError, match="learner"):
        train(config=load_config(SMALL | {"sampler": SAMPLER} | settings | {"learner": {"outer_loss": "pairwise"}}),
              data=visits, run=directory.path, progress=False, resume=True)


def test_weights_that_differ_keep_the_inner_loss_of_their_unit(tmp_path):
    data = write_tiny(tmp_path / "data", unit="weight", positives_only=True, counts=True)
    run(data, tmp_path / "run", learner={}, epochs=1)
    assert RunDirectory.open(str(tmp_path / "run")).config.learner == {"name": "ridge", "outer_loss": "softmax"}


def test_large_weights_have_an_ndcg(visits):
    """2^1100 is beyond float64."""
    prepared = PreparedData(visits)
    tasks = prepared.tasks("validation")
    scorer = build_baseline("popularity").fit(prepared)
    values = [catalogue_of(prepared).measure(scorer, tasks, part=dataclasses.replace(
        tasks, query_label=np.where(tasks.query_label > 0, weight, tasks.query_label)))["ndcg@20"]
        for weight in (1.0, 1100.0)]
    assert np.isfinite(values[0]).any()
    np.testing.assert_allclose(values[1], values[0], rtol=1e-12)


def test_a_metric_that_no_query_defines_is_refused_before_training(tmp_path):
    """Counts under a threshold of relevance that none reaches."""
    data = write_tiny(tmp_path / "data", unit="weight", positives_only=True, counts=True, threshold=20.0)
    with pytest.raises(ConfigError, match=r"'val_auc' requires .* both sides .* 20; there are none"):
        run(data, tmp_path / "run", learner={})
    assert not (tmp_path / "run").exists()
    run(data, tmp_path / "run", learner={}, epochs=1, early_stopping=None)


def test_items_without_training_interactions_are_not_taught_to_score_low(trained, visits):
    _, directory = trained
    prepared = PreparedData(visits)
    options = {"optimizer": None, "tables": FeatureTables.from_prepared(prepared), "clip_norm": None, "dropout": 0.0,
               "seed": 0}
    counts = prepared.training_rows.item_counts()
    trained_items = counts > np.sort(counts)[10]
    step = OuterStep(directory.recommender(), **options, trained_items=trained_items)
    np.testing.assert_array_equal(step._catalogue, np.flatnonzero(trained_items))
    whole = OuterStep(directory.recommender(), **options)
    assert 0 < len(step._catalogue) < len(whole._catalogue)
