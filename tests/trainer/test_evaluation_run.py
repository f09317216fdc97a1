"""`tfmeta evaluate` on small training runs."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny_prepared

from tfmeta import config as configs
from tfmeta.cli import main
from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepared_data import PreparedData
from tfmeta.io import filesystem
from trainer.config import TrainConfig
from trainer.evaluation.recommender_scorer import RecommenderScorer
from trainer.evaluation.results_file import read_json
from trainer.run_directory import RunDirectory, build_from_config
from trainer.weights import save_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_prepared.write_tiny(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    """Complete runs with initial weights: training has its own tests."""
    folder, prepared, paths = tmp_path_factory.mktemp("runs"), PreparedData(data), []
    for seed in (1, 2):
        config = configs.parse(TrainConfig, {**tiny_prepared.SMALL, "seed": seed})
        run = RunDirectory.create(str(folder / f"seed{seed}"), config=config, feature_spec=prepared.feature_spec,
                                  data_path=data, training_fingerprint=prepared.training_fingerprint())
        save_weights(build_from_config(config, prepared.feature_spec), run.file("weights.npz"))
        (folder / f"seed{seed}" / "run.json").write_text("{}")
        paths.append(run.path)
    return paths


@pytest.fixture(scope="module")
def scorer(runs, data):
    run = RunDirectory.open(runs[0])
    tables = FeatureTables.from_prepared(PreparedData(data), feature_spec=run.feature_spec)
    return RecommenderScorer(run.recommender(), tables=tables)


def test_two_seeds_are_evaluated_written_and_merged(runs, tmp_path, capsys):
    stem = str(tmp_path / "quality")
    assert main(["evaluate", "--run", *runs, "--k", "0,2,all", "--baselines", "item_mean,damped_bias,user_mean",
                 "--out", stem]) == 0
    out = capsys.readouterr().out
    assert "user_cold (10 users" in out and "damped_bias" in out and "gain from adaptation" in out
    content = read_json(f"{stem}.json")
    learner = [r for r in content["rows"] if r["role"] == "learner" and r["metric"] == "auc" and r["k"] == "all"]
    assert {r["seed"] for r in learner} == {1, 2, "mean"} and all(r["selected"] for r in learner)
    assert content["environment"]["versions"]["tfmeta"]
    single = read_json(f"{runs[1]}/evaluation.json")["rows"]
    assert {r["seed"] for r in single if r["role"] == "learner"} == {2}
    users = pd.read_parquet(f"{runs[0]}/evaluation.parquet")
    assert users["user_row"].nunique() == 10
    cached = json.loads(filesystem.read_text(f"{runs[0]}/baselines.json"))
    assert set(cached) == {"item_mean", "damped_bias", "user_mean"} and cached["user_mean"]["params"]["damping"] >= 0


def test_json_and_no_baselines(runs, capsys):
    assert main(["evaluate", "--run", runs[0], "--k", "all", "--baselines", "none", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {r["role"] for r in content["rows"]} == {"floor", "learner", "ceiling"}


def test_json_to_a_file(runs, tmp_path, capsys):
    path = tmp_path / "results.json"
    assert main(["evaluate", "--run", runs[0], "--k", "all", "--baselines", "none", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert {row["model"] for row in written["rows"]} >= {"chance", "maml"} and written["environment"]["threads"] >= 1
    assert "chance" in capsys.readouterr().out


def test_mistakes_end_with_one_line(runs, data, tmp_path, capsys):
    other = tiny_prepared.write_tiny(tmp_path / "other", label_shift=-0.5)
    for arguments, message in (
            (["--run", runs[0], "--data", other], "trained on other data"),
            (["--run", runs[0], "--k", "few"], "'--k' requires"),
            (["--run", runs[0], "--k", ""], "'--k' requires"),
            (["--run", runs[0], "--k", "0,5000,all"], "the largest support of the test tasks of"),
            (["--run", runs[0], "--baselines", "item_men"], "Did you mean 'item_mean'"),
            (["--run", runs[0], "--states", "cold"], "Unknown state 'cold'"),
            (["--run", runs[0], "--selected", "other"], "none of maml"),
            (["--run", runs[0], runs[0], "--baselines", "none", "--k", "0"], "twice with seed 1"),
            (["--run", str(tmp_path)], "not a run directory")):
        assert main(["evaluate", *arguments]) == 2, arguments
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in error, error


def test_moved_data_are_found_by_option(runs, data, tmp_path, capsys):
    moved = shutil.copytree(data, tmp_path / "moved")
    assert main(["evaluate", "--run", runs[0], "--data", str(moved), "--k", "0", "--baselines", "none"]) == 0
    assert "user_cold" in capsys.readouterr().out


def test_scorer_ignores_padding_batch_size_order_and_query_labels(scorer, data):
    tasks = PreparedData(data).tasks("test")
    score, base = scorer.score_both(tasks)
    assert score.shape == tasks.query_item.shape and np.abs(score - base).max() > 1e-6
    small = RecommenderScorer(scorer.recommender, tables=scorer.tables, batch_size=3)
    np.testing.assert_allclose(small.score(tasks), score, rtol=1e-5)
    dirty = dataclasses.replace(
        tasks, query_label=np.full_like(tasks.query_label, np.nan),
        support_item=np.pad(tasks.support_item, ((0, 0), (0, 4)), constant_values=-1),
        support_label=np.pad(tasks.support_label, ((0, 0), (0, 4)), constant_values=np.nan))
    np.testing.assert_array_equal(scorer.score(dirty), score)
    order = np.random.default_rng(0).permutation(len(tasks))
    np.testing.assert_allclose(scorer.score(tasks.select(order)), score[order], rtol=1e-5)


def test_scorer_without_support_gives_the_unadapted_scores_bit_for_bit(scorer, data):
    tasks = PreparedData(data).tasks("test")
    score, base = scorer.score_both(tasks.truncate(0))
    np.testing.assert_array_equal(score, base)
    np.testing.assert_allclose(base, scorer.score_both(tasks)[1], rtol=1e-6)


def test_scorer_follows_the_present_weights_and_answers_unknown_items(scorer, data):
    tasks = PreparedData(data).tasks("test")
    tasks.query_item[0] = -1
    before = scorer.score(tasks)
    assert np.isfinite(before).all() and np.ptp(before[0]) == 0
    values = [v.numpy() for v in scorer.recommender.trainable_variables]
    try:
        for variable in scorer.recommender.trainable_variables:
            variable.assign(variable * 1.3)
        assert np.abs(scorer.score(tasks) - before).max() > 1e-4
    finally:
        for variable, value in zip(scorer.recommender.trainable_variables, values, strict=True):
            variable.assign(value)


def test_no_tasks_give_no_scores(scorer, data):
    empty = PreparedData(data).tasks("test").select(np.zeros(0, int))
    assert scorer.score(empty).shape == empty.query_item.shape


def test_history_adds_rows_of_warm_users_alone(runs, monkeypatch):
    from trainer.evaluation.evaluate_run import evaluate_runs

    original = PreparedData.tasks

    def two_states(self, part):
        """The test users once more as warm ones, whose training interactions are known."""
        tasks = original(self, part)
        twice = tasks.select(np.tile(np.arange(len(tasks)), 2))
        first = np.arange(len(twice)) < len(tasks)
        return dataclasses.replace(
            twice, state=np.where(first, twice.state, "item_cold"),
            user_row=np.where(first, twice.user_row, twice.user_row - twice.user_row.min()).astype(np.int32))

    monkeypatch.setattr(PreparedData, "tasks", two_states)
    result = evaluate_runs([f"learner={runs[0]}", f"learner={runs[1]}"], ks=(0, "all"),
                           baselines=("user_mean", "popularity"), history=True)
    rows = [r for r in result.rows if r["uses_history"]]
    assert {(r["model"], r["state"]) for r in rows} == {(m, "item_cold") for m in ("user_mean_history",
                                                                                  "learner_history")}
    assert {r["seed"] for r in rows if r["model"] == "learner_history"} == {1, 2, "mean"}
    without = {(r["k"], r["metric"]): r["value"] for r in result.rows
               if (r["model"], r["state"]) == ("user_mean", "item_cold")}
    own = {(r["k"], r["metric"]): r["value"] for r in rows if r["model"] == "user_mean_history"}
    assert own[0, "mae"] != without[0, "mae"]
