"""The benchmark: tuning, cells, results."""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tfmeta.errors import ConfigError, RunError
from trainer.benchmarking.costs import measure_costs
from trainer.benchmarking.criterion import Criterion
from trainer.benchmarking.suite import Suite
from trainer.benchmarking.suite_data import SuiteData
from trainer.benchmarking.system import System
from trainer.benchmarking.tuner import Tuner, forget_graphs
from trainer.benchmarking.workspace import Workspace
from trainer.evaluation.catalogue import Catalogue
from trainer.evaluation.evaluate import check_support, evaluate
from trainer.evaluation.evaluate_run import label_levels
from trainer.evaluation.evaluation import Evaluation
from trainer.evaluation.oracle_scorer import OracleScorer

# The cells of chance floor, ceiling and synthetic oracles.
BOUNDS = "_bounds"


class Benchmark:
    """Compares systems on a suite, cell by cell.

    Args:
      suite: data and protocol.
      data: of it.
      systems: what to compare, checked.
      workspace: where every finished trial and cell is kept.
      seeds: training seeds of the selected learner, of its family and of the references; all others get one.
      budget: trials of each system.
      time_limit: seconds of trials after which a system gets no further one.
      selected: the selected learner; None takes the one best on validation of all that have trials.

    Attributes:
      failures: system -> what ended its work in this process.
    """

    def __init__(self, suite: Suite, data: SuiteData, *, systems: Sequence[System], workspace: Workspace,
                 seeds: int = 3, budget: int = 8, time_limit: float = 1200.0, selected: str | None = None):
        self.suite, self.data, self.systems, self.workspace = suite, data, list(systems), workspace
        self.seeds, self.budget, self.time_limit, self._selected = seeds, budget, time_limit, selected
        self.failures: dict[str, str] = {}
        label = data.tuning.feature_spec.label
        self.criterion = Criterion(suite.criterion, data.validation_tasks(suite.validation_tasks), label,
                                   self._catalogue(data.tuning, suite.catalogue_ks))
        self.tuner = Tuner(workspace, data=data, criterion=self.criterion, budget=budget, time_limit=time_limit)
        self.test = data.refit.tasks("test")
        check_support(suite.ks, longest=int(self.test.support_length.max(initial=0)), of=f"suite '{suite.name}'")

    def tune(self, progress: Callable[[str, int], Any]) -> None:
        """Chooses settings; `progress` is called with a text before, and with the number of cells after, each step."""
        for system in self.systems:
            before = self._done(system)
            with self._apart(system):
                self.tuner.tune(system, progress=lambda text, system=system: progress(text, 0))
            progress(f"{system.name} tuned", max(0, self.tuner.planned(system) - before))

    def run(self, progress: Callable[[str, int], Any]) -> None:
        """Fits the chosen settings on all training data and evaluates them: first one seed of all, then the others."""
        if not self.workspace.cells(BOUNDS, key=self._bounds_key()):
            progress("floor and ceiling", 0)
            scorers = OracleScorer.from_prepared(self.data.refit, self.test)
            self.workspace.write_cell(BOUNDS, {"seed": "mean", "key": self._bounds_key()},
                                      evaluate(scorers, self.test, **self._protocol()))
        for repeat in range(self.seeds):
            for system in self.systems:
                seeds = self.planned_seeds(system)
                best = self.tuner.best(system)
                if repeat >= len(seeds):
                    continue
                if best is not None and not self.workspace.cells(system.name, key=self.cell_key(system, seeds[repeat])):
                    progress(f"{system.name} seed {seeds[repeat]}", 0)
                    with self._apart(system):
                        self._cell(system, seeds[repeat], best)
                progress(f"{system.name} seed {seeds[repeat]}", 1)

    def count(self, *, tune: bool, run: bool) -> int:
        """Returns the number of cells of both stages, for the progress bar."""
        trials = sum(self.tuner.planned(system) for system in self.systems) if tune else 0
        return trials + (sum(len(self.planned_seeds(system)) for system in self.systems) if run else 0)

    def done(self, *, tune: bool) -> int:
        """Returns how many trials are there already."""
        return sum(self._done(system) for system in self.systems) if tune else 0

    @property
    def selected(self) -> str | None:
        """Name of the selected learner: the given one, else the best on validation; None before there are trials."""
        return self._best_learner() if self._selected is None else self._selected

    @property
    def selected_how(self) -> str:
        """`on validation`, or `by name` where one was given that is not the best there."""
        return "by name" if self._selected not in (None, self._best_learner()) else "on validation"

    def _best_learner(self) -> str | None:
        found = {}
        for system in self.systems:
            best = self.tuner.best(system) if system.role == "learner" and system.selectable else None
            if best is not None and best["criterion"] == self.criterion.metric:
                found[system.name] = self.criterion.loss(best["value"])
        return min(found, key=lambda name: (found[name], name), default=None)

    def planned_seeds(self, system: System) -> list[int | str]:
        """Returns the seeds of a system's cells; `"mean"` for a reference that has none."""
        if not system.seeded:
            return ["mean"]
        chosen = next((s for s in self.systems if s.name == self.selected), None)
        full = system.role == "reference" or (chosen is not None and system.family == chosen.family)
        return list(range(self.seeds if full else 1))

    def cell_key(self, system: System, seed: int | str) -> str:
        """Returns what a cell depends on, hashed."""
        best = self.tuner.best(system)
        values = self.refit_settings(system, best["params"]) if best else None
        return _hash([values, seed, self.data.refit.training_fingerprint(), *self._test_key()])

    def refit_settings(self, system: System, params: dict[str, Any]) -> dict[str, Any]:
        """Returns the nested settings of the final fit: those of the best trial, epochs by `refit_epoch_factor`.

        A configuration that is not searched is taken as it is.
        """
        values = system.space.apply(params)
        if "epochs" in values and system.space.search:
            values["epochs"] = max(1, round(values["epochs"] * self.suite.refit_epoch_factor))
        return values

    def evaluation(self) -> Evaluation:
        """Returns all finished cells that belong to the present settings, the selected learner marked."""
        if not self.workspace.cells(BOUNDS, key=self._bounds_key()):
            raise RunError(f"'{self.workspace.path}' has no finished cells. Run the benchmark without --stage, or with "
                           "--stage run.")
        parts = [self.workspace.evaluation(BOUNDS, "mean")]
        for system, seed, _ in self.finished():
            cells = self.workspace.evaluation(system.name, seed).cells
            parts.append(Evaluation(tuple(c for c in cells if system.states is None or c.state in system.states)))
        selected = self.selected
        return Evaluation.merge(
            Evaluation(tuple(dataclasses.replace(c, selected=c.model == selected) for c in part.cells))
            for part in parts)

    def finished(self) -> list[tuple[System, int | str, dict[str, Any]]]:
        """Returns (system, seed, record) of all finished cells that belong to the present settings."""
        found = []
        for system in self.systems:
            for seed in self.planned_seeds(system):
                records = self.workspace.cells(system.name, key=self.cell_key(system, seed))
                found += [(system, seed, record) for record in records]
        return found

    @contextlib.contextmanager
    def _apart(self, system: System) -> Iterator[None]:
        """Keeps what goes wrong with one system from ending the others' hours of work."""
        try:
            yield
        except Exception as error:
            if os.environ.get("TFMETA_DEBUG", "0") not in ("", "0"):
                raise
            text = str(error).strip().splitlines()
            self.failures[system.name] = f"{type(error).__name__}: {text[-1].strip() if text else ''}"

    def _cell(self, system: System, seed: int | str, best: dict[str, Any]) -> None:
        key, begun = self.cell_key(system, seed), time.monotonic()
        values = self.refit_settings(system, best["params"])
        folder = self.workspace.file("runs", f"{system.name}-{seed}-{key}")
        fitted = system.fit(values, prepared=self.data.refit, seed=0 if seed == "mean" else int(seed), folder=folder)
        evaluation = evaluate([fitted.scorer], self.test, seed=seed, **self._protocol())
        # Floor and ceiling are the same for all and have a cell of their own.
        evaluation = Evaluation(tuple(c for c in evaluation.cells if c.model == system.name))
        costs = measure_costs(fitted.scorer, self.test)
        self.workspace.write_cell(system.name, {
            "system": system.name, "role": system.role, "family": system.family, "seed": seed, "key": key,
            "settings": values, "params": best["params"], "validation": best["value"],
            "train_seconds": round(fitted.seconds, 2), "parameters": fitted.parameters, "loss": fitted.loss,
            **costs, "seconds": round(time.monotonic() - begun, 2)}, evaluation)
        forget_graphs()

    def _protocol(self) -> dict[str, Any]:
        prepared, suite = self.data.refit, self.suite
        return {"label": prepared.feature_spec.label, "ks": suite.ks, "features": prepared.summary["features"],
                "levels": label_levels(prepared), "cutoffs": suite.cutoffs,
                "catalogue": self._catalogue(prepared, suite.catalogue_ks)}

    def _catalogue(self, prepared, ks) -> Catalogue | None:
        if self.suite.catalogue_cutoff is None:
            return None
        return Catalogue(prepared.train, num_users=len(prepared.users), num_items=len(prepared.items),
                         label=prepared.feature_spec.label, cutoff=self.suite.catalogue_cutoff, ks=ks)

    def _test_key(self) -> list:
        suite = self.suite
        files = self.data.refit.manifest["files"]
        return [files["tasks/test.parquet"]["sha256"], suite.ks, suite.cutoffs, suite.catalogue_cutoff,
                suite.catalogue_ks]

    def _bounds_key(self) -> str:
        return _hash([BOUNDS, *self._test_key()])

    def _done(self, system: System) -> int:
        return min(len(self.tuner.trials(system)), self.tuner.planned(system))


def check_systems(systems: Sequence[System], data: SuiteData, *, required: Sequence[str]) -> tuple[list[System], dict]:
    """Returns the systems that fit the data, and name -> reason of those that do not.

    Raises:
      ConfigError: if one that was asked for by name does not.
    """
    fitting, reasons = [], {}
    for system in systems:
        try:
            system.check(data.tuning)
            fitting.append(system)
        except ConfigError as error:
            if system.name in required:
                raise
            reasons[system.name] = str(error)
    forget_graphs()
    if not fitting:
        raise ConfigError("None of the systems fits the suite: " + "; ".join(reasons.values()))
    return fitting, reasons


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

