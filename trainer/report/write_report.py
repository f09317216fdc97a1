"""Writes the report page."""

import datetime
import importlib.resources
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfmeta import __version__
from tfmeta.errors import RunError
from tfmeta.io import filesystem
from tfmeta.metrics import lower_is_better
from trainer.evaluation.positives_only import METRICS as POSITIVES_METRICS
from trainer.report.result_rows import ATTAINABLE, ResultRows, k_order
from trainer.report.words import metric_name, model_name, state_name

_PANELS = ("auc", "ndcg@5", "mae", *POSITIVES_METRICS)
_STATES = {"user_cold": "people who are not in the training data",
           "item_cold": "items that are not in the training data", "both_cold": "both",
           "warm": "known people and items, other interactions"}
_ROLE_NAMES = {"floor": "chance floor", "reference": "baseline", "learner": "learner", "ceiling": "ceiling"}


def write_report(path: str, *, rows: Iterable[Mapping[str, Any]], history: Sequence[Mapping[str, Any]] = (),
                 title: str = "Evaluation", facts: Mapping[str, Any] | None = None, synthetic: bool = False,
                 sections: Sequence[tuple[str, str]] = (), metrics: Sequence[str] = _PANELS) -> str:
    """Writes one self-contained HTML page: no script, no request to anywhere.

    Args:
      path: the HTML file to write, on any file system; an existing one is replaced.
      rows: evaluation records `state, model, role, k, metric, value` and, where known, `low, high, p_value, users,
        selected, uses_history, features, seed`.
      history: one mapping an epoch with `epoch` and the recorded quantities.
      title: heading of the page.
      facts: further name -> value pairs to show under the heading (run, data, seconds).
      synthetic: label the page and every table as made from generated data.
      sections: further (heading, HTML) after the summary; the HTML is trusted.
      metrics: those of the summary and the figures, the most important first, as far as there are rows of them.

    Returns:
      `path`.

    Raises:
      DataError: if a row lacks a required field.
    """
    import jinja2

    from trainer.report import figures

    table = ResultRows.of(rows)
    present = table.metrics()
    panels = [m for m in metrics if m in present] or present[:3]
    states = []
    for state in table.states:
        states.append({
            "name": state_name(state),
            "key": state,
            "metrics": [(metric_name(m), lower_is_better(m)) for m in table.metrics(state)],
            "lines": _lines(table, state),
            "curves": [svg for m in panels if (svg := figures.k_shot_curves(table, state, m))],
        })
    template = importlib.resources.files("trainer.report").joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.filters["number"] = _number
    environment.globals["digits"] = table.digits
    page = environment.from_string(template).render(
        title=title, facts=dict(facts or {}), synthetic=synthetic, version=__version__, states=states,
        summaries=[s for m in panels if (s := _summary(table, m))],
        sections=sections, sentences=_sentences(table, panels[0]) if panels else [],
        gains=[svg for m in panels if (svg := figures.gain_bars(table, m))],
        training=figures.training_curves(history),
        glossary=[(state_name(s).capitalize(), words) for s, words in _STATES.items() if s in table.states],
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"))
    filesystem.write_text(path, page)
    return path


def write_run_report(run: str, *, path: str | None = None, title: str | None = None,
                     facts: Mapping[str, Any] | None = None, synthetic: bool = False) -> str:
    """Writes the report of an evaluated run, by default to `RUN/report.html`.

    Args:
      run: a run directory that holds `evaluation.json` and, usually, `history.jsonl`.
      path: another place for the page.
      title: heading; by default it names the run.
      facts: further name -> value pairs to show.
      synthetic: whether the run's data was generated.

    Raises:
      RunError: if the run was not evaluated.
    """
    evaluation = filesystem.join(run, "evaluation.json")
    if not filesystem.exists(evaluation):
        raise RunError(f"A report requires an evaluated run, and '{evaluation}' does not exist. "
                       f"Evaluate it first: tfmeta evaluate --run {run}")
    # The committed form keeps some metrics at a few k only; the Parquet file beside it has all rows.
    everything = filesystem.join(run, "evaluation_rows.parquet")
    if filesystem.exists(everything):
        import pandas as pd

        frame = pd.read_parquet(io.BytesIO(filesystem.read_bytes(everything)))
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        for row in rows:
            row["k"] = row["k"] if row["k"] == "all" else int(row["k"])
    else:
        rows = json.loads(filesystem.read_text(evaluation))["rows"]
    history_path = filesystem.join(run, "history.jsonl")
    lines = filesystem.read_text(history_path).splitlines() if filesystem.exists(history_path) else []
    return write_report(path or filesystem.join(run, "report.html"),
                        rows=rows,
                        history=[json.loads(line) for line in lines if line.strip()],
                        title=title or f"Evaluation of {filesystem.basename(run)}", facts=facts,
                        synthetic=synthetic)


def _lines(table: ResultRows, state: str) -> list[dict[str, Any]]:
    """The table of one state: floor, baselines, learners at each k with their gain, ceiling.

    All but learners are shown with the most support. The best of each column is marked.
    """
    metrics = table.metrics(state)
    lines = []
    for role in ("floor", "reference", "learner", "ceiling"):
        for model in table.models(state, role):
            rows = table.select(state=state, model=model, role=role)
            known = sorted({r["k"] for r in rows}, key=k_order)
            for k in known if role == "learner" else known[-1:]:
                at_k = [r for r in rows if r["k"] == k]
                by_metric = {r["metric"]: r for r in at_k}
                if not any(m in by_metric for m in metrics):
                    continue
                lines.append({
                    "role": role, "role_name": _ROLE_NAMES[role], "model": model_name(model),
                    "k": "" if k is None or role in ("floor", "ceiling") else k,
                    "selected": any(r.get("selected") for r in at_k),
                    "uses_history": any(r.get("uses_history") for r in at_k),
                    "features": next((r["features"] for r in at_k if r.get("features")), ""),
                    "users": next((r["users"] for r in at_k if r.get("users") is not None), ""),
                    "cells": [by_metric.get(m) for m in metrics], "best": [False] * len(metrics)})
            gains = [table.gain(state, model, m) for m in metrics] if role == "learner" else []
            if any(gains):
                lines.append({**lines[-1], "role": "gain", "role_name": "gain", "cells": gains,
                              "best": [False] * len(metrics)})
    for column, metric in enumerate(metrics):
        scored = [line for line in lines if line["role"] in ("reference", "learner") and line["cells"][column]]
        if scored:
            best = (min if lower_is_better(metric) else max)(line["cells"][column]["value"] for line in scored)
            for line in scored:
                line["best"][column] = line["cells"][column]["value"] == best
    return lines


def _summary(table: ResultRows, metric: str) -> dict[str, Any] | None:
    """One line a state: floor, strongest baseline, the learner unadapted and adapted, gain, ceiling."""
    lines = []
    for state in table.states:
        learners = table.models(state, "learner")
        learner = table.last(state, learners[0], metric) if learners else None
        if learner is None:
            continue
        first = table.curve(state, learners[0], metric)[0]
        lines.append({
            "state": state_name(state), "users": learner.get("users"), "model": model_name(learners[0]),
            "floor": table.best(state, "floor", metric), "reference": table.best(state, "reference", metric),
            "unadapted": first if k_order(first["k"]) == 0 else None, "learner": learner,
            "gain": table.gain(state, learners[0], metric),
            "attainable": table.last(state, ATTAINABLE, metric),
            "recovered": table.recovered(state, learners[0], metric),
            "ceiling": table.best(state, "ceiling", metric)})
    for line in lines:
        if line["reference"]:
            line["reference"] = {**line["reference"], "model": model_name(line["reference"]["model"])}
    if not lines:
        return None
    return {"metric": metric_name(metric), "lower": lower_is_better(metric), "lines": lines,
            "attainable": any(line["attainable"] for line in lines)}


def _sentences(table: ResultRows, metric: str) -> list[str]:
    """What the figures of the first metric say in words, flattering or not."""
    sentences = []
    for state in table.states:
        learners = table.models(state, "learner")
        last = table.last(state, learners[0], metric) if learners else None
        if last is None:
            continue
        sign, digits = -1 if lower_is_better(metric) else 1, table.digits(metric)
        text = (f"{state_name(state).capitalize()}: {model_name(learners[0])} reaches {metric_name(metric)} "
                f"{last['value']:.{digits}f} with {'all' if k_order(last['k']) == float('inf') else last['k']} "
                "support interactions")
        gain = table.gain(state, learners[0], metric)
        if gain:
            text += f", {gain['value']:+.{digits}f} against itself unadapted"
        best = table.best(state, "reference", metric)
        share = table.recovered(state, learners[0], metric)
        if share is not None:
            text += f", {share:.0%} of the way to the best that anybody could do with them"
        if best:
            ahead = sign * (last["value"] - best["value"])
            text += (f"; it is {abs(ahead):.{digits}f} {'ahead of' if ahead > 0 else 'behind'} the strongest baseline, "
                     f"{model_name(best['model'])} ({best['value']:.{digits}f})")
            low, high = best.get("low"), best.get("high")
            if None not in (low, high) and low <= last["value"] <= high:
                text += ", within that baseline's interval"
        sentences.append(text + ".")
    return sentences


def _number(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
