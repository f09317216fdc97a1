"""The table of `make bench`."""

import json

import pytest

from benchmarks.bench_table import RESULTS, bench_table
from benchmarks.marked_block import BEGIN, END, replace_block
from benchmarks.scaling import affine_error, slope

WHERE = {"inner_steps": 5, "tasks": 32, "order": 2, "threads": 2}
ENVIRONMENT = {"processor": "A processor", "threads": 2, "versions": {"tensorflow-cpu": "2.21.0"},
               "commit": "0123456789abcdef", "date": "2026-01-02T03:04:05+00:00"}


def write(folder, name, rows, **environment):
    (folder / f"{name}.json").write_text(json.dumps({"environment": {**ENVIRONMENT, **environment}, "rows": rows}))


def row(system, metric, value, setting=WHERE, workload="W1"):
    return {"workload": workload, "system": system, "setting": setting, "metric": metric, "value": value,
            "ratio_to_ours": None}


def speed(ours, jax, torch):
    return [row("tfmeta", "tasks_per_s", ours), row("tfmeta_dense_adam", "tasks_per_s", 1e9),
            row("jax", "tasks_per_s", jax), row("torch_func", "tasks_per_s", torch),
            row("matrix_products", "tasks_per_s", 6000.0), row("tfmeta", "share_of_matrix_product_bound", ours / 6000)]


def test_speed_is_judged_against_jax_and_shown_against_the_best(tmp_path):
    write(tmp_path, "train_speed", speed(2100.0, 1000.0, 1050.0))
    table, missing = bench_table(tmp_path)
    line = table.splitlines()[2]
    assert "2,100" in line and "torch_func 1,050" in line and "2.00" in line and "6,000 (35%)" in line
    assert ">= 2.0 x JAX" in line and line.endswith("yes")
    assert "A processor, 2 threads, TensorFlow 2.21.0, 2026-01-02, commit 0123456789" in table
    assert missing == ["embedding_scale", "input_speed", "serving_cost", "serving", "startup", "scaling"]


def test_figures_of_several_machines_are_told_apart(tmp_path):
    write(tmp_path, "train_speed", speed(2100.0, 1000.0, 1050.0))
    write(tmp_path, "startup", [], commit="fedcba9876543210", date="2026-02-03T00:00:00+00:00")
    assert bench_table(tmp_path)[0].splitlines()[-1] == (
        "A processor, 2 threads, TensorFlow 2.21.0, 2026-01-02 to 2026-02-03, commit 0123456789, fedcba9876")
    write(tmp_path, "scaling", [], processor="Another")
    write(tmp_path, "serving", [], processor="Another")
    assert bench_table(tmp_path)[0].splitlines()[-3:] == [
        "A processor, 2 threads, TensorFlow 2.21.0, 2026-01-02 to 2026-02-03, commit 0123456789, fedcba9876: "
        "train_speed, startup", "",
        "Another, 2 threads, TensorFlow 2.21.0, 2026-01-02, commit 0123456789: serving, scaling"]


def test_a_missed_goal_is_shown(tmp_path):
    write(tmp_path, "train_speed", speed(1999.0, 1000.0, 10.0))
    write(tmp_path, "serving_cost", [row("tfmeta", "adapt_over_score", 4.5, {"model": "embedding", "users": 64})])
    table, _ = bench_table(tmp_path)
    assert [line.split()[-1] for line in table.splitlines()[2:4]] == ["NO", "NO"]


def test_closed_form_adaptation_is_judged_against_numpy_and_scoring(tmp_path):
    where = {"learner": "ridge", "users": 64, "support": 20}
    write(tmp_path, "closed_form", [
        row("tfmeta", "adapt_best_ms", 1.6, where), row("numpy_posv", "adapt_best_ms", 1.0, where),
        row("tfmeta", "adapt_p50_ms", 0.1, where), row("numpy_posv", "adapt_p50_ms", 1.0, where),
        row("tfmeta", "adapt_over_score_best", 1.4, {**where, "item_features": "request"}),
        row("tfmeta", "adapt_over_score_best", 1.9, {**where, "learner": "bayesian", "item_features": "catalogue"})])
    table, missing = bench_table(tmp_path, markdown=True)
    assert ("| adapt, ridge, 64 users, 20 support rows | 1.6 ms | numpy_posv 1 ms | 0.62 | - | <= 1.5 x NumPy | NO |"
            in table)
    assert ("| adapt_and_score / score, ridge, 64 users, 20 support rows, items with features | 1.4 x | - | - | - "
            "| <= 1.5 x | yes |" in table)
    assert "| 1.9 x | - | - | - | - | - |" in table and "closed_form" not in missing


def test_amortised_adaptation_is_judged_against_its_own_arithmetic(tmp_path):
    where = {"learner": "tanp", "users": 64, "support": 20}
    write(tmp_path, "closed_form", [
        row("tfmeta", "adapt_best_ms", 1.4, where), row("numpy_posv", "adapt_best_ms", 0.35, where),
        row("numpy_same", "adapt_best_ms", 1.0, where)])
    table, _ = bench_table(tmp_path, markdown=True)
    assert ("| adapt, tanp, 64 users, 20 support rows | 1.4 ms | numpy_same 1 ms | 0.71 | - | <= 1.5 x NumPy | yes |"
            in table)
    assert ("| adapt, tanp, 64 users, 20 support rows, beside the ridge solve | 1.4 ms | numpy_posv 0.35 ms | 0.25 | - "
            "| - | - |" in table)


def test_without_peers_nothing_is_claimed(tmp_path):
    write(tmp_path, "train_speed", [r for r in speed(2100.0, 1.0, 1.0) if r["system"] not in ("jax", "torch_func")])
    table, _ = bench_table(tmp_path, markdown=True)
    assert "| 2,100 | - | - | 6,000 (35%) | >= 2.0 x JAX | - |" in table


def test_serving_is_judged_against_calls_in_process(tmp_path):
    def found(metric, value, ratio, concurrency, batching):
        return {**row("embedded_grpc", metric, value, {
            "signature": "adapt_and_score", "inner_steps": 5, "concurrency": concurrency, "batching": batching}),
            "ratio_to_ours": ratio}

    write(tmp_path, "serving", [
        found("p50_above_in_process_ms", 1.2, None, 1, False), found("per_s", 500.0, 0.5, 32, False),
        found("per_s", 700.0, 0.7, 32, True), found("per_s", 1.0, 9.0, 8, True)])
    lines = bench_table(tmp_path)[0].splitlines()[2:6]
    assert [line.split()[-1] for line in lines] == ["NO", "NO", "yes", "yes"]
    assert "in-process x 0.50" in lines[1] and "1.40 x" in lines[3]


def test_growth_is_measured_by_slope_and_by_distance_from_a_line():
    assert slope({1: 3.0, 2: 6.0, 4: 12.0}) == pytest.approx(1)
    assert slope({1: 9.0, 32: 5.0, 64: 5.0, 128: 5.0}, beyond=31) == pytest.approx(0)
    assert affine_error({1: 5.0, 2: 7.0, 10: 23.0}) == pytest.approx(0, abs=1e-9)
    assert affine_error({1: 1.0, 2: 4.0, 4: 16.0, 8: 64.0}) > 0.3


def test_input_shows_the_least_of_each_system(tmp_path):
    write(tmp_path, "input_speed", [
        row("tfmeta", "pipeline_over_training", 9.0, {"tasks": 32}),
        row("tfmeta", "pipeline_over_training", 2.5, {"tasks": 256}),
        row("tfmeta", "rss_growth", 0.01, {"epochs": 5}), row("tfmeta", "prepare_s", 8.0, {"dataset": "ml-1m"})])
    lines = bench_table(tmp_path)[0].splitlines()[2:5]
    assert [line.split()[-1] for line in lines] == ["NO", "yes", "yes"] and "2.5 x" in lines[0]


def test_the_page_shows_the_results_files(repository):
    page = (repository / "docs" / "performance.md").read_text("utf-8")
    table, _ = bench_table(RESULTS, markdown=True)
    assert page == replace_block(page, table), "run python -m benchmarks.bench_table --write docs/performance.md"
    assert BEGIN in page and END in page
    with pytest.raises(ValueError, match="markers"):
        replace_block("# A", "new")
