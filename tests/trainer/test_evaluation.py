"""The evaluation protocol: means, floors, tests, merging and files."""

import importlib.machinery
import json
import os
import sys
import types

import numpy as np
import pandas as pd
import pytest
from evaluation_cases import LABEL, Peeking, make_tasks

from tfmeta.errors import ConfigError, DataError, RunError
from tfmeta.metrics import ranking
from tfmeta.metrics.significance import holm, wilcoxon
from trainer.evaluation.environment import environment
from trainer.evaluation.evaluate import check_ks, evaluate
from trainer.evaluation.evaluation import Evaluation, committed_rows
from trainer.evaluation.oracle_scorer import OracleScorer
from trainer.evaluation.results_file import read_json, write_results
from trainer.evaluation.table import format_table

FIELDS = ["state", "model", "role", "k", "seed", "metric", "value", "low", "high", "p_value", "users", "selected",
          "uses_history", "features"]


@pytest.fixture(scope="module")
def tasks():
    return make_tasks()


def run(tasks, *scorers, **options):
    return evaluate(scorers, tasks, label=LABEL, **{"ks": (0, 2, 5, "all"), **options})


def find(rows, **wanted):
    found = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.fixture(scope="module")
def both(tasks):
    reference = Peeking(tasks, name="bias", role="reference", noise=1.0, uses_support=False)
    weak = Peeking(tasks, name="weak", role="reference", noise=4.0, uses_support=False, seed=9)
    return run(tasks, reference, weak, Peeking(tasks, selected=True), seed=7, levels=(1, 2, 3, 4, 5))


def test_rows_have_the_contract_and_every_model_state_and_k(both):
    rows = both.rows()
    assert all(list(row) == FIELDS for row in rows)
    json.dumps(rows, allow_nan=False)
    cells = {(r["model"], r["state"], r["k"]) for r in rows}
    models = ("chance", "perfect_order", "bias", "weak", "learner")
    assert cells == {(m, s, k) for m in models for s in ("user_cold", "item_cold") for k in (0, 2, 5, "all")}
    assert {r["metric"] for r in rows if r["model"] == "learner" and r["k"] == 0} == {
        "auc", "ndcg@5", "ndcg_linear@5", "precision@5", "recall@5", "f1@5", "hit@5", "mrr", "mae", "mae_median",
        "rmse", "rmse_pooled", "accuracy"}
    assert {r["seed"] for r in rows if r["model"] == "learner"} == {7}
    assert {r["role"] for r in rows if r["selected"]} == {"learner"}


def test_value_is_the_mean_over_splits_of_the_mean_over_users(tasks, both):
    part = tasks.in_state("item_cold")
    score = Peeking(tasks).score(part.truncate(2))
    value = ranking.auc(score, part.query_label, part.query_length, threshold=4)
    expected = np.mean([np.nanmean(value[part.split == s]) for s in range(3)])
    row = find(both.rows(), state="item_cold", model="learner", k=2, metric="auc")
    assert row["value"] == pytest.approx(expected, rel=1e-12)
    by_user = pd.Series(value).groupby(part.user_row).mean()
    assert row["users"] == by_user.notna().sum()
    frame = both.per_user().query("state == 'item_cold' and model == 'learner' and k == '2'")
    np.testing.assert_allclose(frame["auc"], by_user.to_numpy())
    assert row["low"] < row["value"] < row["high"]


def test_pooled_rmse_is_the_root_over_all_items_of_a_split(tasks, both):
    part = tasks.in_state("user_cold")
    error = (np.clip(Peeking(tasks).score(part), 1, 5) - part.query_label) ** 2
    expected = np.mean([np.sqrt(error[part.split == s].mean()) for s in range(3)])
    row = find(both.rows(), state="user_cold", model="learner", k="all", metric="rmse_pooled")
    assert row["value"] == pytest.approx(expected) and row["low"] < expected < row["high"]


def test_gain_is_adapted_minus_unadapted_and_paired(both):
    rows = both.rows()
    for metric, sign in (("auc", 1), ("mae", -1)):
        gain = find(rows, state="user_cold", model="learner", k="all", metric=f"gain_{metric}")
        ends = [find(rows, state="user_cold", model="learner", k=k, metric=metric) for k in ("all", 0)]
        assert gain["value"] == pytest.approx(ends[0]["value"] - ends[1]["value"])
        assert sign * gain["value"] > 0 and gain["low"] < gain["value"] < gain["high"] and gain["p_value"] < 0.01
    assert not any(r["metric"].startswith("gain_") for r in rows if r["role"] != "learner" or r["k"] == 0)


def test_p_values_are_against_the_best_reference_and_holm_in_the_family(both):
    rows = both.rows()
    users = {(m, s, k): g.set_index("user_row") for (m, s, k), g in both.per_user().groupby(["model", "state", "k"])}
    plain = find(rows, state="user_cold", model="learner", k=2, metric="auc")["p_value"]
    assert plain == pytest.approx(wilcoxon(users["learner", "user_cold", "2"]["auc"].to_numpy(),
                                           users["bias", "user_cold", "2"]["auc"].to_numpy()))
    family = [(s, m) for s in ("user_cold", "item_cold") for m in ("auc", "ndcg@5", "mae")]
    raw = [wilcoxon(users["learner", s, "all"][m].to_numpy(), users["bias", s, "all"][m].to_numpy())
           for s, m in family]
    got = [find(rows, state=s, model="learner", k="all", metric=m)["p_value"] for s, m in family]
    np.testing.assert_allclose(got, holm(np.array(raw)))
    assert all(r["p_value"] is None for r in rows if r["role"] != "learner")


def test_floor_and_ceiling_bound_the_models(both):
    rows = both.rows()
    for state in ("user_cold", "item_cold"):
        assert find(rows, state=state, model="chance", k="all", metric="auc")["value"] == pytest.approx(0.5)
        for metric in ("auc", "ndcg@5", "mae", "accuracy"):
            floor, value, ceiling = (find(rows, state=state, model=m, k="all", metric=metric)["value"]
                                     for m in ("chance", "learner", "perfect_order"))
            assert floor != ceiling and min(floor, ceiling) < value <= max(floor, ceiling)


def test_models_never_see_query_labels_and_supports_are_nested(tasks):
    learner = Peeking(tasks)
    still = Peeking(tasks, name="still", uses_support=False)
    run(tasks, learner, still)
    assert len(still.calls) == 2 and len(learner.calls) == 8
    for call in learner.calls:
        assert np.isnan(call.query_label).all()
        full = tasks.in_state(call.state[0])
        real = np.arange(call.support_item.shape[1])[None, :] < call.support_length[:, None]
        np.testing.assert_array_equal(call.support_item[real],
                                      full.support_item[:, :call.support_item.shape[1]][real])
    np.testing.assert_array_equal([c.support_length.max() for c in learner.calls[:4]], [0, 2, 5, 8])


def test_merging_seeds_gives_the_mean_and_tests_users_averaged_over_seeds(tasks):
    runs = [run(tasks, Peeking(tasks, seed=s, selected=True), seed=s) for s in (1, 2, 3)]
    reference = run(tasks, Peeking(tasks, name="bias", role="reference", noise=1.0, uses_support=False))
    merged = Evaluation.merge([reference, *runs])
    rows = merged.rows()
    at = {"state": "user_cold", "model": "learner", "k": "all", "metric": "auc"}
    single = [find(rows, seed=s, **at) for s in (1, 2, 3)]
    mean = find(rows, seed="mean", **at)
    assert mean["value"] == pytest.approx(np.mean([r["value"] for r in single]))
    assert mean["p_value"] is not None and all(r["p_value"] is None for r in single)
    widths = [r["high"] - r["low"] for r in single]
    assert mean["high"] - mean["low"] < np.mean(widths)
    assert Evaluation.merge([merged]).rows() == rows
    assert {r["seed"] for r in rows if r["model"] in ("bias", "chance")} == {"mean"}
    with pytest.raises(DataError, match="twice with seed 1"):
        Evaluation.merge([runs[0], runs[0]])
    other = make_tasks(seed=5)
    with pytest.raises(DataError, match="same data"):
        Evaluation.merge([runs[0], run(other, Peeking(other), seed=9)])


def test_equal_models_are_not_significantly_different(tasks):
    twin = Peeking(tasks, name="twin", role="reference")
    rows = run(tasks, twin, Peeking(tasks, selected=True)).rows()
    assert find(rows, state="user_cold", model="learner", k="all", metric="auc")["p_value"] == 1.0


def test_mistakes_are_named(tasks):
    with pytest.raises(ConfigError, match="distinct names"):
        run(tasks, Peeking(tasks), Peeking(tasks))
    with pytest.raises(ConfigError, match="reserved"):
        run(tasks, Peeking(tasks, name="chance"))
    with pytest.raises(ConfigError, match="Did you mean 'user_cold'"):
        run(tasks, states=("user_old",))
    with pytest.raises(ConfigError, match="no state 'warm'"):
        run(tasks, states=("warm",))
    with pytest.raises(ConfigError, match="received -1"):
        check_ks((0, -1))
    assert check_ks(("all", 5, 0, 5)) == (0, 5, "all")
    wrong = Peeking(tasks)
    wrong.score = lambda t: np.full(t.query_item.shape, np.nan)
    with pytest.raises(RunError, match="180 of 180 user_cold tasks with NaN"):
        run(tasks, wrong)
    wrong.score = lambda t: np.zeros(len(t))
    with pytest.raises(RunError, match="shape"):
        run(tasks, wrong)


def test_oracle_rows_hold_at_their_k(tasks):
    exact = np.asarray(tasks.query_label)
    oracles = [OracleScorer(tasks, exact, name="synthetic_oracle"),
               OracleScorer(tasks, exact + 0.5, name="synthetic_fold_in", ks=(0,)),
               OracleScorer(tasks, exact, name="synthetic_fold_in", ks=("all",))]
    rows = run(tasks, *oracles).rows()
    assert find(rows, state="item_cold", model="synthetic_oracle", k=2, metric="mae")["value"] == 0.0
    assert {r["k"] for r in rows if r["model"] == "synthetic_fold_in"} == {0, "all"}
    assert find(rows, state="item_cold", model="synthetic_fold_in", k=0, metric="mae")["value"] > 0
    with pytest.raises(DataError, match="no predictions"):
        oracles[0].score(make_tasks(users=70))


@pytest.mark.parametrize(("module", "program"), [
    ("tfmeta.__main__", "python -m tfmeta"), ("benchmarks.closed_form", "python -m benchmarks.closed_form"),
    (None, "tfmeta")])
def test_the_recorded_command_can_be_run_again(monkeypatch, module, program):
    main = types.ModuleType("__main__")
    main.__spec__ = module and importlib.machinery.ModuleSpec(module, None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/tfmeta", "evaluate", "--run", os.path.abspath("a b")])
    assert environment()["command"] == f"{program} evaluate --run 'a b'"


def test_files_round_trip_and_committed_rows(tmp_path, both):
    rows = both.rows()
    stem = str(tmp_path / "evaluation")
    write_results(stem, both, rows, environment=environment("tfmeta evaluate"))
    content = read_json(f"{stem}.json")
    assert content["rows"] == committed_rows(rows)
    assert set(content["environment"]) == {"processor", "threads", "versions", "commit", "command", "date"}
    kept = {(r["metric"], r["k"]) for r in content["rows"]}
    assert ("mae", 2) in kept and ("mrr", 5) in kept and ("mrr", 2) not in kept
    assert len(pd.read_parquet(f"{stem}_rows.parquet")) == len(rows)
    pd.testing.assert_frame_equal(pd.read_parquet(f"{stem}.parquet"), both.per_user())
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(DataError, match="environment and rows"):
        read_json(str(tmp_path / "bad.json"))


def test_table_is_aligned_and_marks_the_best(both):
    text = format_table(both.rows())
    blocks = text.split("\n\n")
    assert [b.split()[0] for b in blocks] == ["user_cold", "item_cold"]
    lines = blocks[0].splitlines()
    assert "60 users" in lines[0] and "MAE" in lines[1]
    assert len({len(line) for line in lines if set(line) == {"-"}}) == 1
    marked = [line for line in lines if "*" in line and "minus" not in line]
    assert len(marked) == 1 and marked[0].startswith("bias")
    assert any(line.startswith("gain from adaptation") for line in lines)
    assert [line.split()[-4] for line in lines if line.startswith("learner")] == ["0"]
