"""Rows of a benchmark's results file."""

from collections.abc import Sequence
from typing import Any

from trainer.benchmarking.benchmark import Benchmark

COSTS = ("train_seconds", "tune_seconds", "adapt_us_per_user", "score_us_per_user", "adapt_and_score_us_per_user",
         "parameters")
# Digits of committed values: more than any interval has.
_DIGITS = 6


def result_rows(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Returns quality rows as `Evaluation.rows` has them, each with `seeds`, the number of training seeds behind it.

    A system without training seeds has 1. Each seed's own row has 1, too.
    """
    seeds: dict[str, int] = {}
    for system, _, _ in benchmark.finished():
        seeds[system.name] = seeds.get(system.name, 0) + 1
    suite = benchmark.suite
    rows = benchmark.evaluation().rows(family=suite.metrics)
    if not suite.cutoffs:
        # Of a query of one item only what is measured out of all items says something.
        rows = [row for row in rows if row["metric"].removeprefix("gain_") in suite.metrics]
    for row in rows:
        row["seeds"] = seeds.get(row["model"], 1) if row["seed"] == "mean" else 1
    return rows


def cost_rows(benchmark: Benchmark) -> list[dict[str, Any]]:
    """Returns what fitting, tuning and adapting took: `workload, system, setting, metric, value, ratio_to_ours`.

    `ratio_to_ours` is the system's value over the selected learner's. Seconds and microseconds are of the machine
    that the file's head describes; of several seeds the mean.
    """
    from trainer.benchmarking.costs import SUPPORT, USERS

    found: dict[str, dict[str, list[float]]] = {}
    about: dict[str, dict[str, Any]] = {}
    for system, _, record in benchmark.finished():
        values = found.setdefault(system.name, {})
        for metric in COSTS:
            if record.get(metric) is not None:
                values.setdefault(metric, []).append(record[metric])
        about[system.name] = {"role": system.role, "family": system.family, "params": record["params"],
                              "validation": record["validation"]}
        values["tune_seconds"] = [sum(t["seconds"] for t in benchmark.tuner.trials(system))]
        about[system.name]["trials"] = len(benchmark.tuner.trials(system))
    ours = found.get(benchmark.selected or "", {})
    rows = []
    for name, values in found.items():
        for metric in COSTS:
            if metric not in values:
                continue
            value = sum(values[metric]) / len(values[metric])
            mine = sum(ours[metric]) / len(ours[metric]) if metric in ours else None
            setting = {**about[name], "seeds": len(values[metric])} if metric == "train_seconds" else (
                {"users": USERS, "support": SUPPORT} if metric.endswith("per_user") else {})
            rows.append({"workload": f"learners_{benchmark.suite.name}", "system": name, "setting": setting,
                         "metric": metric, "value": _round(value),
                         "ratio_to_ours": _round(value / mine) if mine else None})
    return rows


def committed_rows(rows: Sequence[dict[str, Any]], *, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the quality rows of a results file that stays below 1 MiB with thirty systems, values rounded.

    Of the suite's metrics: every k of the first one, k = 0, 5 and all of the others, gains with 5 and all support rows,
    and each seed with the whole support. Every other metric with the whole support.
    """
    aggregated = {row["model"] for row in rows if row["seed"] == "mean"}
    kept = []
    for row in rows:
        metric, gain = row["metric"].removeprefix("gain_"), row["metric"].startswith("gain_")
        if row["seed"] != "mean" and row["model"] in aggregated:
            keep = metric in metrics and row["k"] == "all" and not gain
        elif gain:
            keep = metric in metrics and row["k"] in (5, "all")
        elif metric == metrics[0]:
            keep = True
        elif metric in metrics:
            keep = row["k"] in (0, 5, "all")
        else:
            keep = row["k"] == "all" and metric not in ("mse", "rmse_pooled")
        if keep:
            kept.append({key: _round(value) for key, value in row.items()})
    return kept


def _round(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
