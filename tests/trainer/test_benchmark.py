"""The benchmark: search spaces, resumption, selection, rows, and what it refuses before anything is trained."""

import contextlib
import dataclasses
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_prepared import write_tiny

from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError, DataError
from trainer.benchmarking import suites
from trainer.benchmarking.benchmark import Benchmark, check_systems
from trainer.benchmarking.figures import frontier
from trainer.benchmarking.reference_system import ReferenceSystem
from trainer.benchmarking.results import committed_rows, cost_rows, result_rows
from trainer.benchmarking.search_space import SearchSpace
from trainer.benchmarking.suite_data import SuiteData, check_source
from trainer.benchmarking.suites import SUITES, get_suite
from trainer.benchmarking.systems import build_systems
from trainer.benchmarking.workspace import Workspace

REFERENCES = ["damped_bias", "als_fold_in"]


@pytest.fixture(scope="module")
def suite():
    return dataclasses.replace(
        SUITES["synthetic"], tuning_users=60, validation_tasks=40, ks=(0, 5, "all"),
        synthetic=SyntheticConfig(users=200, items=80, ratings_per_user=30.0, rounded=True, seed=2))


@pytest.fixture(scope="module")
def data(suite, tmp_path_factory):
    return SuiteData.open(suite, source=None, folder=str(tmp_path_factory.mktemp("suite")))


def benchmark(suite, data, path, *, budget=3, seeds=2, references=REFERENCES) -> Benchmark:
    systems = build_systems("synthetic", learners=[], references=references, budget=budget)
    return Benchmark(suite, data, systems=systems, workspace=Workspace(str(path)), budget=budget, seeds=seeds)


def silent(text, number):
    pass


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_spaces_that_build(name):
    systems = build_systems(name, budget=8, unit=SUITES[name].unit)
    assert {"learner", "reference"} == {s.role for s in systems}
    for system in systems:
        for path in system.space.search:
            assert path in system.space.defaults(), f"{system.name} has no default of {path}"
        assert system.grid is not None or system.space.encoded(system.space.defaults()) is not None


@pytest.mark.parametrize("name", SUITES)
def test_every_learner_of_a_suite_takes_the_settings_of_its_space(name, tmp_path):
    """A run of all learners leaves out those that do not fit the data, and so those whose space is wrong."""
    visits = SUITES[name].unit == "click"
    data = PreparedData(write_tiny(tmp_path / "data", unit=SUITES[name].unit, positives_only=visits))
    learners = [s for s in build_systems(name, budget=8, unit=SUITES[name].unit) if s.seeded]
    fitting, reasons = check_systems(learners, SimpleNamespace(tuning=data), required=[])
    # The levels of an ordinal head are those of ratings.
    assert set(reasons) == ({"ordinal_ridge"} if visits else set())
    assert all("requires labels of unit rating" in reason for reason in reasons.values())
    assert len(fitting) == len(learners) - len(reasons)


def test_spaces_encode_what_they_suggest():
    import optuna

    space = SearchSpace({"a": {"b": 2}, "c": 0.5, "d": [1, 2]},
                        {"a.b": [1, 2, 3], "c": {"low": 0.1, "high": 1.0, "log": True}, "d": [[], [1, 2]],
                         "e": {"low": 1, "high": 4, "integer": True}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        chosen = space.suggest(trial)
        assert space.encoded(chosen) == trial.params
        applied = space.apply(chosen)
        assert applied["a"]["b"] == chosen["a.b"] and applied["d"] == chosen["d"] and 1 <= applied["e"] <= 4
    assert space.fixed["a"]["b"] == 2
    assert space.encoded({**chosen, "a.b": 9}) is None
    with pytest.raises(ConfigError, match=r"'a.b'.*low < high"):
        SearchSpace({}, {"a.b": {"low": 2, "high": 1}})


def test_the_subset_has_so_many_users_whole_and_no_tasks(suite, data):
    full, part = data.tuning.train, data.subset.train
    users = np.unique(part.user_row)
    assert len(users) == suite.tuning_users
    kept = np.isin(full.user_row, users)
    np.testing.assert_array_equal(full.item_row[kept], part.item_row)
    np.testing.assert_array_equal(full.label[kept], part.label)
    assert not len(data.subset.tasks("validation")) and not len(data.subset.tasks("test"))
    assert data.subset.feature_spec == data.tuning.feature_spec


def test_a_benchmark_cut_off_at_any_trial_goes_on_as_it_would_have(suite, data, tmp_path):
    whole = benchmark(suite, data, tmp_path / "whole")
    whole.tune(silent)
    for _ in range(3):  # one trial a process
        part = benchmark(suite, data, tmp_path / "part")
        system = part.systems[1]
        propose, tried = part.tuner._propose, []

        def stop(system, trials, propose=propose, tried=tried):
            if tried:
                raise KeyboardInterrupt
            tried.append(1)
            return propose(system, trials)

        part.tuner._propose = stop
        with contextlib.suppress(KeyboardInterrupt):
            part.tuner.tune(system)
    expected = [t["params"] for t in whole.tuner.trials(whole.systems[1])]
    assert len(expected) == 3 and len({json.dumps(p) for p in expected}) > 1
    assert [t["params"] for t in part.tuner.trials(system)] == expected
    assert [t["value"] for t in part.tuner.trials(system)] == [t["value"] for t in whole.tuner.trials(whole.systems[1])]


def test_a_smaller_budget_takes_no_notice_of_the_trials_of_a_larger_one(suite, data, tmp_path):
    large = benchmark(suite, data, tmp_path, budget=3)
    large.tune(silent)
    small = benchmark(suite, data, tmp_path, budget=2)
    for system in small.systems:
        trials = large.tuner.trials(system)
        assert len(trials) == 3 and small.tuner.trials(system) == trials[:2] and small.tuner.complete(system)
        assert small.tuner.best(system)["value"] == min(t["value"] for t in trials[:2])


def test_the_final_fit_has_a_multiple_of_the_tuned_epochs(suite, data, tmp_path):
    systems = build_systems("synthetic", learners=["ridge"], references=["damped_bias"], budget=1)
    reference, ridge = systems
    longer = dataclasses.replace(suite, refit_epoch_factor=2.5)
    for chosen, wanted in ((20, 50), (3, 8), (1, 2)):
        settings = Benchmark(longer, data, systems=systems, workspace=Workspace(str(tmp_path))).refit_settings(
            ridge, {"epochs": chosen, "item_id_dropout": 0.3})
        assert settings["epochs"] == wanted and settings["item_id_dropout"] == 0.3
    whole = Benchmark(suite, data, systems=systems, workspace=Workspace(str(tmp_path)))
    assert whole.refit_settings(ridge, {"epochs": 20})["epochs"] == 20
    assert whole.refit_settings(reference, {"damping": 5.0}) == reference.space.apply({"damping": 5.0})
    with pytest.raises(ConfigError, match="refit_epoch_factor"):
        dataclasses.replace(suite, refit_epoch_factor=0.0)


def test_cells_are_kept_and_make_rows(suite, data, tmp_path):
    first = benchmark(suite, data, tmp_path)
    first.tune(silent)
    first.run(silent)
    assert not first.failures
    files = {p: p.stat().st_mtime_ns for p in pathlib.Path(tmp_path).rglob("*.json")}
    again = benchmark(suite, data, tmp_path)
    again.tune(silent)
    again.run(silent)
    assert files == {p: p.stat().st_mtime_ns for p in pathlib.Path(tmp_path).rglob("*.json")}
    rows = result_rows(again)
    # ALS has a seed, damped bias has none.
    seeds = {(r["model"], r["seed"]): r["seeds"] for r in rows}
    assert seeds["als_fold_in", "mean"] == 2 and seeds["als_fold_in", 0] == 1 and seeds["damped_bias", "mean"] == 1
    assert {r["role"] for r in rows} == {"floor", "reference", "ceiling"}
    assert not any(r["selected"] for r in rows)
    kept = committed_rows(rows, metrics=suite.metrics)
    assert {(r["k"]) for r in kept if r["metric"] == "auc" and r["model"] == "als_fold_in"} == {0, 5, "all"}
    assert all(r["k"] == "all" for r in kept if r["metric"] == "rmse")
    costs = {(r["system"], r["metric"]): r["value"] for r in cost_rows(again)}
    assert costs["als_fold_in", "adapt_and_score_us_per_user"] > 0


def test_a_system_that_breaks_does_not_end_the_others(suite, data, tmp_path):
    broken = benchmark(suite, data, tmp_path, budget=1)
    broken.systems[0].fit = lambda *args, **kwargs: (_ for _ in ()).throw(KeyError("lost"))
    broken.tune(silent)
    assert list(broken.failures) == ["damped_bias"] and "lost" in broken.failures["damped_bias"]
    assert broken.tuner.best(broken.systems[1]) is not None


class FoldIn(ReferenceSystem):
    """ALS fold-in in a learner's place: it adapts, and is fitted in no time."""

    role, family = "learner", "fold_in"

    def __init__(self, name):
        super().__init__("als_fold_in", budget=1)
        self.name = name

    def fit(self, values, **options):
        fitted = ReferenceSystem("als_fold_in", budget=1).fit(values, **options)
        fitted.scorer.name, fitted.scorer.role = self.name, "learner"
        return fitted


def test_the_report_speaks_of_its_suites_own_metrics_and_states(suite, tmp_path):
    """A suite as Yelp's: the last interaction of warm and of new users, out of the whole catalogue."""
    from trainer.benchmarking.report import write_benchmark_report

    changed = dataclasses.replace(
        suite, metrics=("ndcg@20", "recall@20"), criterion="ndcg@20", cutoffs=(), catalogue_cutoff=20,
        catalogue_ks=suite.ks, refit_epoch_factor=3.0, synthetic=dataclasses.replace(suite.synthetic, items=300),
        split=dataclasses.replace(SUITES["yelp"].split, cold_user_share=0.2, validation_user_share=0.2,
                                  warm_test_user_share=0.3))
    data = SuiteData.open(changed, source=None, folder=str(tmp_path / "data"))
    given = FoldIn("given")
    given.space, given.grid, given.selectable = SearchSpace({"factors": 2}), None, False
    run = Benchmark(changed, data, systems=[ReferenceSystem("damped_bias", budget=1), FoldIn("fold_in"), given],
                    budget=1, workspace=Workspace(str(tmp_path / "out")), seeds=2)
    run.tune(silent)
    run.run(silent)
    assert not run.failures and run.selected == "fold_in", run.failures
    outcome = write_benchmark_report(run)
    text, page = (pathlib.Path(run.workspace.file(name)).read_text() for name in ("report.md", "report.html"))
    for words in ("NDCG@20 on the same 32 validation tasks of pseudo-cold users. The settings of given "
                  "were given, not tuned here. The best", "fold in** (selected)",
                  "Selected on validation: **fold in**", "with 3 times the epochs of the trial",
                  "Values are means over users, with", "NDCG@20 and recall@20 are out of the whole catalogue",
                  "over NDCG@20 and recall@20 in the user-cold state, descriptive for the others and elsewhere",
                  "## Warm (", "## User-cold (", "NDCG@20, user-cold, with the first k"):
        assert words in text, words
    for words in ("item-cold", "Item-cold", "both-cold", "MAE", "NDCG@5", "AUC"):
        assert words not in text and words not in page, words
    # Values of a few hundredths are told apart by a fourth decimal, in tables, curves and gains.
    last = next(r for r in outcome.rows if (r["state"], r["model"], r["k"], r["metric"], r["seed"])
                == ("user_cold", "fold_in", "all", "ndcg@20", "mean"))
    assert last["value"] < 0.1 and text.count(f"{last['value']:.4f}") >= 2 and f"{last['value']:.4f}" in page
    gain = next(r for r in outcome.rows if (r["state"], r["k"], r["metric"], r["seed"])
                == ("user_cold", "all", "gain_ndcg@20", "mean") and r["model"] == "fold_in")
    assert f"{gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})" in text
    assert f"reaches NDCG@20 {last['value']:.4f} with all support" in page
    # All Holm-corrected hypotheses: one cold state, two metrics.
    tested = [r for r in outcome.rows if r["selected"] and r["p_value"] is not None and r["k"] == "all"
              and r["state"] == "user_cold" and not r["metric"].startswith("gain_")]
    assert {r["metric"] for r in tested} == {"ndcg@20", "recall@20"}


def test_a_learner_that_was_not_the_best_is_not_called_so(suite, data, tmp_path):
    systems = [FoldIn("one"), FoldIn("two")]
    options = {"systems": systems, "workspace": Workspace(str(tmp_path)), "budget": 1, "seeds": 1}
    systems[1].grid = ({"user_ridge": 1e6},)
    Benchmark(suite, data, **options).tune(silent)
    trials = [Benchmark(suite, data, **options).tuner.best(system)["value"] for system in systems]
    best, other = ("one", "two") if trials[0] < trials[1] else ("two", "one")
    for given, how in ((None, "on validation"), (best, "on validation"), (other, "by name")):
        chosen = Benchmark(suite, data, **options, selected=given)
        assert (chosen.selected, chosen.selected_how) == (given or best, how)


@pytest.mark.slow
def test_a_learner_is_tuned_selected_and_reported(suite, data, tmp_path):
    from trainer.benchmarking.report import copy_results, write_benchmark_report

    systems = build_systems("synthetic", learners=["ridge"], references=REFERENCES, budget=1, overrides=["epochs=2"])
    run = Benchmark(suite, data, systems=systems, workspace=Workspace(str(tmp_path / "out")), budget=1, seeds=2)
    run.tune(silent)
    run.run(silent)
    assert run.selected == "ridge" and not run.failures
    outcome = write_benchmark_report(run)
    assert all(pathlib.Path(f).exists() for f in outcome.files)
    tested = [r for r in outcome.rows if r["selected"] and r["p_value"] is not None and r["k"] == "all"]
    assert {r["seed"] for r in tested} == {"mean"} and {r["seeds"] for r in tested} == {2}
    written = copy_results(run, folder=str(tmp_path / "results"))
    assert str(tmp_path / "results" / "learners_synthetic.json") in written
    text = pathlib.Path(written[-1]).read_text()
    assert "ridge** (selected)" in text and "learners_synthetic_pareto.png" in text


def test_what_is_asked_for_by_name_must_fit(suite, data):
    def checked(*names, overrides=()):
        systems = build_systems("synthetic", learners=names, references=[], budget=1, overrides=overrides)
        return check_systems(systems, data, required=[n.replace("@", "_") for n in names])

    with pytest.raises(ConfigError, match=r"Learner 'maml_hed'.*scope"):
        checked("maml@hed")
    with pytest.raises(ConfigError, match=r"Learner 'maml'.*binary_cross_entropy requires implicit"):
        checked("maml", overrides=["learner.inner_loss=binary_cross_entropy"])
    with pytest.raises(ConfigError, match=r"Unknown learner 'mmal'. Did you mean 'maml'"):
        build_systems("synthetic", learners=["mmal"], budget=1)
    with pytest.raises(ConfigError, match=r"Unknown reference 'als'"):
        build_systems("synthetic", references=["als"], budget=1)


def test_k_and_source_are_checked_before_anything_starts(suite, data, tmp_path):
    with pytest.raises(ConfigError, match=r"'--k'.*received 5000"):
        benchmark(dataclasses.replace(suite, ks=(0, 5000)), data, tmp_path)
    with pytest.raises(ConfigError, match="requires the directory of its data"):
        check_source(SUITES["ml1m"], None)
    with pytest.raises(DataError, match="not a directory"):
        check_source(SUITES["yelp"], str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="requires no --source"):
        check_source(suite, str(tmp_path))
    with pytest.raises(ConfigError, match="Did you mean 'ml1m'"):
        get_suite("ml-1m")
    assert suites.get_suite("ml1m", ks=None).ks == SUITES["ml1m"].ks


def test_the_command_says_in_one_line_what_is_absent(capsys, tmp_path):
    from tfmeta.cli import main

    assert main(["benchmark", "--suite", "ml100k", "--source", str(tmp_path / "no"), "--out", str(tmp_path / "o")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "o").exists()
    (tmp_path / "empty").mkdir()
    assert main(["benchmark", "--suite", "yelp", "--source", str(tmp_path / "empty"), "--out",
                 str(tmp_path / "o")]) == 2
    assert "requires file 'interactions.parquet'" in capsys.readouterr().err


def test_the_command_says_in_one_line_what_does_not_fit_before_anything_is_trained(suite, capsys, tmp_path,
                                                                                   monkeypatch):
    from tfmeta.cli import main

    monkeypatch.setitem(SUITES, "synthetic", suite)
    for arguments, message in (
            (["--learners", "maml@hed"], "'learner.scope' for model 'two_tower' requires one of user_vector"),
            (["--learners", "maml", "--set", "learner.inner_loss=binary_cross_entropy"], "requires implicit feedback"),
            (["--learners", "ridge", "--k", "0,500"], "the largest support of suite 'synthetic', received 500")):
        assert main(["benchmark", "--suite", "synthetic", "--references", "none", "--out", str(tmp_path),
                     *arguments]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tfmeta: ")]
        assert len(errors) == 1 and message in errors[0], errors
        assert not (tmp_path / "trials").exists() and not (tmp_path / "cells").exists()


def test_nothing_on_the_frontier_is_beaten_in_both():
    points = [(1.0, 0.5), (2.0, 0.7), (2.0, 0.6), (3.0, 0.65), (4.0, 0.9)]
    assert frontier(points, lower=False) == [(1.0, 0.5), (2.0, 0.7), (4.0, 0.9)]
    assert frontier([(c, -q) for c, q in points], lower=True) == [(1.0, -0.5), (2.0, -0.7), (4.0, -0.9)]
