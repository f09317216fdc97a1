"""From the event log and the last run to the next version."""

import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import os
import sys
import tempfile
from typing import Any

import pandas as pd
from tqdm import tqdm

from export import gate
from export.run_export import export_run
from tfmeta import config as configs
from tfmeta.baselines import baselines_for
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.prepared_tables import to_bytes
from tfmeta.errors import DataError, RunError
from tfmeta.io import filesystem
from tfmeta.serving.model_versions import list_versions
from trainer.evaluation.environment import environment
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.evaluate_run import evaluate_runs
from trainer.evaluation.positives_only import CUTOFF, METRICS, chosen_metric, protocol
from trainer.evaluation.results_file import read_json, write_results
from trainer.feedback.drift import Window, drift_report
from trainer.feedback.gain_trend import read_gains
from trainer.feedback.promotion import promote
from trainer.feedback.refresh_config import RefreshConfig
from trainer.feedback.refresh_data import interactions_of, refresh_data
from trainer.feedback.refresh_decision import gain, is_better, is_needed
from trainer.feedback.refresh_start import RefreshStart
from trainer.feedback.refresh_steps import RefreshSteps
from trainer.run_directory import RunDirectory
from trainer.tensor_memory import keep_tensor_memory

_BEFORE, _AFTER, _STATE = "before", "refreshed", "user_cold"
_KS = (0, 5, "all")
_REPORT = "refresh.json"
_HISTORY = 24  # Evaluations in the drift report's history of the gain.


@keep_tensor_memory()
def refresh(*, log, run: str, out: str, config: RefreshConfig | None = None, data: str | None = None,
            model_base: str | None = None, models_config: str | None = None, name: str | None = None,
            promote_to: str | None = None, force: bool = False, dry_run: bool = False,
            progress: bool = False) -> dict[str, Any]:
    """Refreshes a model and says what was decided and why.

        OUT/refresh.json        what this function returns
        OUT/drift.json, .html   the drift report
        OUT/data                the prepared directory; OUT/data_held_out names the users of its test
        OUT/before*             the last run on the newest users
        OUT/run                 the refreshed run, with its evaluation
        OUT/steps               what is done, for going on after an interruption

    Killed at any moment and called again it goes on: each step's output appears whole or not at all, and a step is
    done again only if what goes into it has changed.

    Args:
      log: an `EventLog`.
      run: the last run.
      out: directory of this refresh.
      config: settings.
      data: the last run's prepared directory, if it has moved.
      model_base: export the next version here; None exports nothing.
      models_config, name: file and model to promote in.
      promote_to: label of the new version, `canary`; None promotes nothing.
      force: refresh although nothing has changed.
      dry_run: stop after the first decision and write nothing.
      progress: show bars on standard error.

    Returns:
      JSON-able: `decision` (`refreshed`, `not_needed`, `refused`, in a dry run `would_refresh`), `reasons`, `window`,
      `drift` (verdict), `data` (counts), `metric`, `evaluation` (`before`, `refreshed`: value, unadapted, gain,
      users), `comparison`, `training` (steps, seconds), `run`, `version` (directory), `promotion`.

    Raises:
      DataError: if the log or the run's data cannot be used, or too few users are new.
      RunError, ExportError, ServingError: as training, export and promotion do.
    """
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            return _Refresh(log, run=run, out=folder, config=config or RefreshConfig(), data=data,
                            progress=progress).decide(force=force)
    found = _Refresh(log, run=run, out=out, config=config or RefreshConfig(), data=data, progress=progress)
    report = found.run(force=force, model_base=model_base)
    if report["version"] and promote_to:
        done = promote(models_config, model=name, version=int(filesystem.basename(report["version"])),
                       label=promote_to, model_base=model_base, check=False)
        report["promotion"] = {**dataclasses.asdict(done), "text": done.describe()}
        found.write(report)
    return report


class _Refresh:
    """One refresh: the steps and what goes into each."""

    def __init__(self, log, *, run: str, out: str, config: RefreshConfig, data: str | None, progress: bool):
        self._out, self._config, self._progress = str(out).rstrip("/"), config, progress
        self._last = RunDirectory.open(run)
        self._previous = PreparedData(data or self._last.data_path)
        if self._previous.training_fingerprint() != self._last.training_fingerprint:
            raise RunError(f"Run '{self._last.path}' was trained on other data than '{self._previous.path}' holds. "
                           "Give the directory it was trained on with --data.")
        dates = log.dates("outcome")
        if not dates:
            raise DataError("A refresh requires outcomes, the log has none. Fill it with 'tfmeta ingest'.")
        self._end = dates[-1]
        self._start = self._end - datetime.timedelta(days=config.window_days - 1)
        self._since = int(datetime.datetime.combine(self._start, datetime.time(), datetime.UTC).timestamp())
        self._events = log.outcomes(self._start, self._end)
        self._users, self._items = log.users(), log.items()
        self._steps = RefreshSteps(self._file("steps"))
        self._inputs = {"config": configs.to_dict(config), "run": self._last.summary["hash"],
                        "data": self._last.training_fingerprint,
                        "events": [_digest(f) for f in (self._events, self._users, self._items)],
                        "window": [str(self._start), str(self._end)]}

    def _file(self, *parts: str) -> str:
        return filesystem.join(self._out, *parts)

    def decide(self, *, force: bool) -> dict[str, Any]:
        """Returns the report as far as it goes without training."""
        with self._bar(3) as bar:
            report, decision = self._before_training(bar, force=force)
        return {**report, "decision": "would_refresh" if decision.go_on else "not_needed"}

    def run(self, *, force: bool, model_base: str | None) -> dict[str, Any]:
        """Goes all the way and writes the report."""
        filesystem.makedirs(self._out)
        with self._bar(6 if model_base else 5) as bar:
            report, decision = self._before_training(bar, force=force)
            if not decision.go_on:
                return self.write({**report, "decision": "not_needed"})
            bar.set_description("train")
            trained = self._steps.do("train", self._inputs, lambda _: self._train(),
                                     clean=lambda: filesystem.remove_tree(self._file("run")))
            bar.update()
            bar.set_description("evaluate")
            inputs = {**self._inputs, "trained": trained["hash"]}
            after = self._steps.do("evaluate", inputs, lambda _: self._evaluate_after())
            bar.update()
            taken, comparison = is_better(
                *self._per_user(), metric=self._metric, config=self._config,
                gate_reasons=self._gate_reasons() if self._config.gate else ())
            report |= {"training": trained, "comparison": comparison, "run": self._file("run"),
                       "evaluation": {**report["evaluation"], _AFTER: after},
                       "reasons": [*report["reasons"], *taken.reasons]}
            if not taken.go_on:
                return self.write({**report, "decision": "refused"})
            if model_base:
                bar.set_description("export")
                report["version"] = self._steps.do(
                    "export", {**inputs, "model_base": model_base},
                    lambda version: self._export(model_base, version, trained["hash"]),
                    plan=lambda: max(list_versions(model_base), default=0) + 1)["version"]
                bar.update()
        return self.write({**report, "decision": "refreshed"})

    def write(self, report: dict[str, Any]) -> dict[str, Any]:
        filesystem.write_text(self._file(_REPORT), json.dumps(report, indent=2))
        return report

    def _before_training(self, bar, *, force: bool):
        bar.set_description("data")
        counts = self._steps.do("data", self._inputs, lambda _: self._prepare())
        self._prepared = PreparedData(self._file("data"))
        self._metric = chosen_metric(self._config.metric, self._prepared.tasks("test"), self._last.feature_spec.label,
                                     of="the newest users")
        self._cutoff = CUTOFF if self._metric in METRICS else None
        if counts["new_tasks"] < self._config.min_new_tasks:
            raise DataError(f"A refresh requires {self._config.min_new_tasks} users to train on with events in the "
                            f"window, received {counts['new_tasks']}. Wait for more, or change window_days or "
                            "min_new_tasks.")
        bar.update()
        bar.set_description("evaluate")
        before = self._steps.do("before", self._inputs, lambda _: self._evaluate_before())
        bar.update()
        bar.set_description("drift")
        evaluations = [*self._evaluations(), self._file(f"{_BEFORE}.json")]
        drift = self._steps.do("drift", {**self._inputs, "evaluations": [_hash(path) for path in evaluations]},
                               lambda _: self._drift(evaluations))
        bar.update()
        decision = is_needed(verdict=drift["verdict"], drift_reasons=drift["reasons"], now=before,
                             then=self._own_figures(), metric=self._metric, config=self._config, force=force)
        report = {"decision": None, "reasons": list(decision.reasons), "from": _absolute(self._last.path),
                  "window": {"start": str(self._start), "end": str(self._end), "events": len(self._events)},
                  "drift": drift["verdict"], "data": counts, "metric": self._metric,
                  "evaluation": {_BEFORE: before}, "comparison": None, "training": None, "run": None, "version": None,
                  "promotion": None}
        return report, decision

    def _prepare(self) -> dict[str, Any]:
        return refresh_data(self._events, previous=self._previous, feature_spec=self._last.feature_spec,
                            config=self._config, since=self._since, out=self._file("data"), users=self._users,
                            items=self._items).counts()

    def _evaluations(self) -> list[str]:
        """Returns the evaluations of the last run and of those that it goes back to, oldest first."""
        found, run = [], _absolute(self._last.path)
        while run is not None and len(found) < _HISTORY:
            path = filesystem.join(run, "evaluation.json")
            if not filesystem.exists(path):
                break
            found.append(path)
            report = filesystem.join(run.rpartition("/")[0], _REPORT)
            run = json.loads(filesystem.read_text(report)).get("from") if filesystem.exists(report) else None
        return found[::-1]

    def _drift(self, evaluations: list[str]) -> dict[str, Any]:
        report = drift_report(self._window(self._previous), self._window(self._prepared, since=self._since),
                              feature_spec=self._last.feature_spec, gains=read_gains(evaluations))
        filesystem.write_text(self._file("drift.json"), report.to_json())
        report.write_html(self._file("drift.html"))
        return {"verdict": report.verdict, "reasons": list(report.reasons)}

    def _window(self, prepared: PreparedData, *, since: int | None = None) -> Window:
        """Returns what the last run was trained on, or, with `since`, the events of the window."""
        if since is None:
            rows = interactions_of(prepared)
        else:
            rows = self._events.assign(user_id=self._events["user_id"].astype(prepared.users["user_id"].dtype),
                                       item_id=self._events["item_id"].astype(prepared.items["item_id"].dtype))
        return Window(users=prepared.users[prepared.users["user_id"].isin(set(rows["user_id"]))],
                      items=prepared.items[prepared.items["item_id"].isin(set(rows["item_id"]))], interactions=rows)

    def _evaluate_before(self) -> dict[str, Any]:
        from tfmeta.data.feature_tables import FeatureTables
        from trainer.evaluation.recommender_scorer import RecommenderScorer

        # With the specification that it was trained and exported with: what is new is unknown to it.
        tables = FeatureTables.from_prepared(self._prepared, feature_spec=self._last.feature_spec)
        scorer = RecommenderScorer(self._last.recommender(), tables=tables, name=_BEFORE)
        tasks = self._prepared.tasks("test")
        found = evaluate([scorer], tasks, label=self._last.feature_spec.label, ks=_KS, seed=self._last.config.seed,
                         **protocol(tasks, self._prepared, cutoff=self._cutoff))
        write_results(self._file(_BEFORE), found, found.rows(), environment=environment())
        return self._figures(read_json(self._file(f"{_BEFORE}.json"))["rows"], _BEFORE)

    def _train(self) -> dict[str, Any]:
        from trainer.loop import train

        start = RefreshStart(self._last, since=self._since, replay_share=self._config.replay_share,
                             learning_rate_factor=self._config.learning_rate_factor)
        result = train(config=start.train_config(epochs=self._config.epochs, seed=self._config.seed),
                       data=self._prepared, run=self._file("run"), resume=True, progress=self._progress, start=start)
        return {"hash": result.hash, "epochs": result.epochs, "steps": result.steps, "seconds": result.seconds}

    def _evaluate_after(self) -> dict[str, Any]:
        unit = self._last.feature_spec.label.unit
        bias = [b for b in gate.BIAS_BASELINES if b in baselines_for(unit)]
        evaluate_runs([f"{_AFTER}={self._file('run')}"], data=self._prepared.path, ks=_KS, baselines=bias,
                      catalogue_cutoff=self._cutoff)
        return self._figures(read_json(self._file("run", "evaluation.json"))["rows"], _AFTER)

    def _gate_reasons(self) -> tuple[str, ...]:
        return gate.check(read_json(self._file("run", "evaluation.json"))).reasons

    def _export(self, model_base: str, version: int, run_hash: str) -> dict[str, Any]:
        known = list_versions(model_base)
        if version in known:
            if _run_of(known[version]) == run_hash:
                return {"version": known[version]}  # Cut off between the export and its record.
            version = max(known) + 1
        compatible = known[max(known)] if known else None
        return {"version": export_run(self._file("run"), model_base=model_base, version=version,
                                      data=self._prepared.path, gated=self._config.gate, compatible_with=compatible)}

    def _figures(self, rows: list[dict[str, Any]], model: str) -> dict[str, Any]:
        adapted, unadapted = (_row(rows, model, self._metric, k) for k in ("all", 0))
        value, base = (float("nan") if row is None else row["value"] for row in (adapted, unadapted))
        if not value == value or not base == base:
            raise DataError(f"The newest users require the metric {self._metric}, which is undefined for all of them. "
                            "Choose another with metric, or wait for more events.")
        return {"value": value, "unadapted": base, "gain": gain(self._metric, adapted=value, unadapted=base),
                "users": adapted["users"]}

    def _own_figures(self) -> dict[str, float] | None:
        """Returns what the last run's own evaluation has for new users; None where there is none."""
        path = self._last.file("evaluation.json")
        rows = read_json(path)["rows"] if filesystem.exists(path) else []
        rows = [r for r in rows if r["role"] == "learner" and not r.get("uses_history")]
        found = [_row(rows, rows[0]["model"], self._metric, k) for k in ("all", 0)] if rows else [None]
        if None in found:
            return None
        adapted, unadapted = (row["value"] for row in found)
        return {"value": adapted, "gain": gain(self._metric, adapted=adapted, unadapted=unadapted)}

    def _per_user(self):
        """Returns the deciding metric of the old and of the refreshed model, `[U]` each, for the same users."""
        columns = []
        for path, model in ((self._file(f"{_BEFORE}.parquet"), _BEFORE),
                            (self._file("run", "evaluation.parquet"), _AFTER)):
            frame = pd.read_parquet(io.BytesIO(filesystem.read_bytes(path)))
            chosen = frame[(frame["model"] == model) & (frame["state"] == _STATE) & (frame["k"] == "all")]
            columns.append(chosen.groupby("user_row")[self._metric].mean())
        both = pd.concat(columns, axis=1, join="inner").to_numpy()
        return both[:, 0], both[:, 1]

    @contextlib.contextmanager
    def _bar(self, total: int):
        with tqdm(total=total, unit="step", file=sys.stderr, disable=not self._progress, dynamic_ncols=True) as bar:
            yield bar


def _row(rows: list[dict[str, Any]], model: str, metric: str, k) -> dict[str, Any] | None:
    found = [r for r in rows if r["model"] == model and r["metric"] == metric and r["k"] == k and r["state"] == _STATE
             and r["value"] is not None]
    return found[0] if found else None


def _absolute(path: str) -> str:
    return path if filesystem.is_remote(path) else os.path.abspath(path)


def _hash(path: str) -> str:
    return hashlib.sha256(filesystem.read_bytes(path)).hexdigest()


def _digest(frame: pd.DataFrame | None) -> str | None:
    import pyarrow as pa

    if frame is None:
        return None
    return hashlib.sha256(to_bytes(pa.Table.from_pandas(frame, preserve_index=False))).hexdigest()


def _run_of(version: str) -> str | None:
    """Returns the hash of the run that a version was exported from."""
    path = filesystem.join(version, "assets.extra", "export.json")
    if not filesystem.exists(path):
        return None
    return (json.loads(filesystem.read_text(path)).get("run") or {}).get("hash")
