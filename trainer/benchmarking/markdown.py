"""The report of a benchmark as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfmeta.metrics import lower_is_better
from trainer.benchmarking.benchmark import Benchmark
from trainer.benchmarking.figures import system_costs
from trainer.evaluation.evaluation import FAMILY_STATES
from trainer.report.result_rows import ResultRows, k_order
from trainer.report.words import listed, metric_name, model_name, state_name

_EXTRA = ("mae_median",)


def markdown(benchmark: Benchmark, rows: ResultRows, costs: Sequence[dict[str, Any]], head: Mapping[str, Any], *,
             figures: Mapping[str, tuple[str, str]], left_out: Mapping[str, str]) -> str:
    """Returns the report: states, k-shot curves, gains, costs, settings.

    Args:
      benchmark: what was run.
      rows: quality.
      costs: cost rows.
      head: of the results file.
      figures: heading -> (file name, what it shows).
      left_out: system -> why it has no row.
    """
    suite = benchmark.suite
    parts = [f"# Benchmark: {suite.name}", ""]
    if suite.dataset == "synthetic":
        parts += ["The data are synthetic: they were drawn from the library's generator.", ""]
    parts += [
        _tuning(benchmark), "", _reading(benchmark, rows), "",
        f"Made with `{head['command']}` at commit `{head['commit'][:12]}` on {head['date'][:10]}: {head['processor']}, "
        f"{head['threads']} threads.", ""]
    for state in rows.states:
        parts += _state(benchmark, rows, state)
    parts += ["## Quality over the support", ""]
    parts += _figure(figures, "k_shot")
    for state in rows.states:
        parts += _curves(rows, state, suite.metrics[0])
    parts += ["## Gain from adaptation", "", "Adapted with the whole support minus unadapted.", ""]
    parts += _figure(figures, "gain") + _gains(rows, suite.metrics)
    parts += ["## Cost", "", "Training on all data; adaptation and scoring of batches of 64 users with 20 support rows "
              "each, on the machine above. Scoring includes encoding the items.", ""]
    parts += _figure(figures, "pareto") + _costs(rows, costs)
    parts += ["## Settings", "", *_settings(benchmark)]
    if left_out:
        parts += ["", "Without a row: " + "; ".join(f"`{name}`: {why}" for name, why in left_out.items()), ""]
    return "\n".join(parts) + "\n"


def _tuning(benchmark: Benchmark) -> str:
    """How settings and the selected learner were chosen."""
    suite, criterion = benchmark.suite, benchmark.criterion
    states = set(criterion.tasks.states)
    held_out = listed([name for name, those in (("users", {"user_cold", "both_cold"}),
                                                ("items", {"item_cold", "both_cold"})) if states & those])
    fixed = [_name(s.name) for s in benchmark.systems if s.role == "learner" and not s.space.search]
    trials = f"{benchmark.budget} trial{'s' * (benchmark.budget > 1)}"
    text = (f"Every system had {trials} (or as many as its grid has settings) in at most "
            f"{benchmark.time_limit / 60:.0f} minutes, fitted on {benchmark.data.subset.summary['training_users']:,} "
            f"training users and scored by {metric_name(suite.criterion)} on the same {len(criterion.tasks):,} "
            f"validation tasks{f' of pseudo-cold {held_out}' if held_out else ''}. ")
    if fixed:
        text += f"The settings of {listed(fixed)} were given, not tuned here. "
    return text + (f"The best settings were then fitted on all training data, {_epochs(suite.refit_epoch_factor)}. "
                   f"Selected {benchmark.selected_how}: **{_name(benchmark.selected)}**. "
                   f"Features: {benchmark.data.refit.summary['features']}.")


def _reading(benchmark: Benchmark, rows: ResultRows) -> str:
    """What values, intervals and p-values are of."""
    suite, splits = benchmark.suite, len(set(benchmark.test.split.tolist()))
    metrics = [metric_name(m) for m in suite.metrics]
    means = f"the {splits} splits of the mean over users" if splits > 1 else "users"
    text = f"Values are means over {means}, with 95 % bootstrap intervals over users. "
    catalogue = [] if suite.catalogue_cutoff is None else [
        metric_name(m) for m in suite.metrics if m.endswith(f"@{suite.catalogue_cutoff}")]
    if catalogue:
        text += (f"{listed(catalogue)} {'is' if len(catalogue) == 1 else 'are'} out of the whole catalogue: all items "
                 f"that a user has not met{', on the first split' if splits > 1 else ''}. ")
    family = [state_name(state) for state in rows.states if state in FAMILY_STATES]
    text += ("p: Wilcoxon signed-rank test over users against the strongest reference of that state and metric; "
             + (f"Holm-corrected for the selected learner over {listed(metrics)} in the {listed(family)} "
                f"state{'s' * (len(family) > 1)}, descriptive for the others and elsewhere. "
                if family else "descriptive. "))
    return text + "Seeds: training seeds behind a row."


def _state(benchmark: Benchmark, rows: ResultRows, state: str) -> list[str]:
    present, digits = rows.metrics(state), rows.digits
    metrics = [m for m in (*benchmark.suite.metrics, *_EXTRA) if m in present]
    families = {s.name: s.family for s in benchmark.systems}
    users = max((r["users"] for r in rows.select(state=state)), default=0)
    lines = [f"## {state_name(state).capitalize()} ({users:,} users)", "",
             "| system | family | seeds | " + " | ".join(
                 f"{metric_name(m)} {'↓' if lower_is_better(m) else '↑'}" for m in metrics) + " |",
             "| --- | --- | --- |" + " --- |" * len(metrics)]
    table: list[tuple[float, str]] = []
    for rank, role in enumerate(("floor", "reference", "learner", "ceiling")):
        models = rows.models(state, role)

        def order(model):
            row = rows.last(state, model, metrics[0])
            return float("inf") if row is None else row["value"] * (1 if lower_is_better(metrics[0]) else -1)

        for model in sorted(models, key=order):
            cells = [rows.last(state, model, m) for m in metrics]
            known = next((c for c in cells if c), None)
            if known is None:
                continue
            name = f"**{_name(model)}** (selected)" if known.get("selected") else _name(model)
            name += " (uses history)" if known.get("uses_history") else ""
            bold = known.get("selected")
            table.append((rank, f"| {name} | {_words(families.get(model, role))} | "
                          f"{known.get('seeds', 1) if model in families else ''} | "
                          + " | ".join(_cell(c, digits=digits(m), bold=bool(bold))
                                       for m, c in zip(metrics, cells, strict=True)) + " |"))
    return [*lines, *(line for _, line in table), ""]


def _curves(rows: ResultRows, state: str, metric: str) -> list[str]:
    models = [m for role in ("reference", "learner") for m in rows.models(state, role)]
    ks = sorted({r["k"] for m in models for r in rows.curve(state, m, metric)}, key=k_order)
    if not ks:
        return []
    sign = 1 if lower_is_better(metric) else -1
    models = sorted((m for m in models if rows.curve(state, m, metric)),
                    key=lambda m: sign * rows.last(state, m, metric)["value"])
    lines = [f"{metric_name(metric)}, {state_name(state)}, with the first k support interactions:", "",
             "| system | " + " | ".join(f"k = {k}" for k in ks) + " |", "| --- |" + " --- |" * len(ks)]
    for model in models:
        values = {str(r["k"]): r["value"] for r in rows.curve(state, model, metric)}
        lines.append(f"| {_name(model)} | " + " | ".join(
            f"{values[str(k)]:.{rows.digits(metric)}f}" if str(k) in values else "" for k in ks) + " |")
    return [*lines, ""]


def _gains(rows: ResultRows, metrics: Sequence[str]) -> list[str]:
    states = rows.states
    learners = list(dict.fromkeys(m for s in states for m in rows.models(s, "learner")))
    metric, form = metrics[0], f"+.{rows.digits(metrics[0])}f"
    lines = [f"| {metric_name(metric)} | " + " | ".join(map(state_name, states)) + " |",
             "| --- |" + " --- |" * len(states)]
    for model in learners:
        cells = []
        for state in states:
            gain = rows.gain(state, model, metric)
            cells.append("" if gain is None else f"{gain['value']:{form}}" + (
                f" ({gain['low']:{form}} to {gain['high']:{form}})" if gain.get("low") is not None else ""))
        lines.append(f"| {_name(model)} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _costs(rows: ResultRows, costs: Sequence[dict[str, Any]]) -> list[str]:
    names = {"train_seconds": "training, s", "tune_seconds": "tuning, s", "adapt_us_per_user": "adapt, µs a user",
             "score_us_per_user": "score, µs a user", "adapt_and_score_us_per_user": "adapt and score, µs a user",
             "parameters": "parameters"}
    found = system_costs(list(costs))
    lines = ["| system | " + " | ".join(names.values()) + " |", "| --- |" + " --- |" * len(names)]
    for system, values in found.items():
        lines.append(f"| {_name(system)} | " + " | ".join(
            f"{values[m]:,.0f}" if values.get(m, 0) >= 100 or (m == "parameters" and m in values) else
            f"{values[m]:.3g}" if m in values else "" for m in names) + " |")
    return [*lines, ""]


def _settings(benchmark: Benchmark) -> list[str]:
    lines = ["| system | trials | failed | validation | settings that were searched |",
             "| --- | --- | --- | --- | --- |"]
    for system in benchmark.systems:
        trials, best = benchmark.tuner.trials(system), benchmark.tuner.best(system)
        if best is None:
            continue
        chosen = ", ".join(f"`{path}={_value(value)}`" for path, value in best["params"].items()) or "none"
        failed = sum(trial["value"] is None for trial in trials)
        lines.append(f"| {_name(system.name)} | {len(trials)} | {failed or ''} | {metric_name(best['criterion'])} "
                     f"{best['value']:.4g} | {chosen} |")
    return [*lines, ""]


def _figure(figures: Mapping[str, tuple[str, str]], key: str) -> list[str]:
    return [f"![{figures[key][1]}]({figures[key][0]})", ""] if key in figures else []


def _cell(row: dict[str, Any] | None, *, digits: int, bold: bool) -> str:
    if row is None:
        return ""
    text = f"**{row['value']:.{digits}f}**" if bold else f"{row['value']:.{digits}f}"
    if row.get("low") is not None and row["low"] < row["high"]:
        text += f" ({row['low']:.{digits}f} to {row['high']:.{digits}f})"
    if row.get("p_value") is not None:
        text += " p < .001" if row["p_value"] < 1e-3 else f" p = {row['p_value']:.3f}"
    return text


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _epochs(factor: float) -> str:
    return "epochs frozen" if factor == 1 else f"with {factor:.3g} times the epochs of the trial"


def _name(model: str | None) -> str:
    return "none" if model is None else model_name(model)
