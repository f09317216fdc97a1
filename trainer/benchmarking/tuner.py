"""The choice of a system's settings on the validation tasks."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmeta.errors import ConfigError, TfmetaError
from tfmeta.io import filesystem
from trainer.benchmarking.criterion import Criterion
from trainer.benchmarking.suite_data import SuiteData
from trainer.benchmarking.system import System
from trainer.benchmarking.workspace import Workspace


class Tuner:
    """Tries settings of systems: every system the same number, fitted on the same users, scored on the same tasks.

    The first trial has the defaults of the space; those that follow come from optuna's TPE sampler (Bergstra et al.,
    "Algorithms for Hyper-Parameter Optimization", NIPS 2011, section 4), each a function of the trials before it, so
    that a search that was cut off goes on as it would have. A grid of no more settings than the budget is tried
    setting by setting.

    Args:
      workspace: keeps the trials.
      data: of the suite.
      criterion: scores a fitted system.
      budget: trials of each system.
      time_limit: seconds of trials after which a system gets no further one; it always gets one.
      seed: of fits and draws.

    Raises:
      ConfigError: if optuna is not there.
    """

    def __init__(self, workspace: Workspace, *, data: SuiteData, criterion: Criterion, budget: int,
                 time_limit: float, seed: int = 0):
        require_optuna()
        self._workspace, self._data, self._criterion = workspace, data, criterion
        self._budget, self._time_limit, self._seed = budget, time_limit, seed

    def key(self, system: System) -> str:
        """Returns what the trials of a system depend on, hashed."""
        tasks = self._criterion.tasks
        content = [system.space.fixed, system.space.search, system.grid, self._data.subset.training_fingerprint(),
                   self._data.tuning.training_fingerprint(), self._criterion.metric, len(tasks), self._seed]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def planned(self, system: System) -> int:
        """Returns how many trials a system gets at most."""
        if system.grid is not None:
            return max(1, len(system.grid))
        return self._budget if system.space.search else 1

    def trials(self, system: System) -> list[dict[str, Any]]:
        """Returns the finished trials of a system, as many as the budget allows: a larger one may have made more."""
        return self._workspace.trials(system.name, key=self.key(system))[:self.planned(system)]

    def complete(self, system: System) -> bool:
        """Whether a system gets no further trial."""
        trials = self.trials(system)
        spent = sum(trial["seconds"] for trial in trials)
        return len(trials) >= self.planned(system) or (bool(trials) and spent >= self._time_limit)

    def best(self, system: System) -> dict[str, Any] | None:
        """Returns the best finished trial, None where none succeeded."""
        known = [trial for trial in self.trials(system) if trial["value"] is not None]
        return min(known, key=lambda t: self._criterion.loss(t["value"], metric=t["criterion"]), default=None)

    def tune(self, system: System, *, progress: Callable[[str], Any] | None = None) -> None:
        """Does the trials that are missing."""
        report = progress or (lambda text: None)
        while not self.complete(system):
            trials = self.trials(system)
            chosen = self._propose(system, trials)
            report(f"{system.name} trial {len(trials)}")
            self._workspace.write_trial(system.name, {
                "system": system.name, "number": len(trials), "key": self.key(system), "params": chosen,
                **self._try(system, chosen, number=len(trials))})

    def _try(self, system: System, chosen: dict[str, Any], *, number: int) -> dict[str, Any]:
        folder = self._workspace.file("runs", f".trial-{system.name}-{number:03d}-{self.key(system)}")
        begun = time.monotonic()
        record: dict[str, Any] = {"criterion": self._criterion.metric, "value": None, "error": None}
        try:
            fitted = system.fit(system.space.apply(chosen), prepared=self._data.subset, seed=self._seed, folder=folder)
            values = self._criterion(fitted.scorer)
            record |= {"criterion": self._criterion.metric_of(fitted.scorer),
                       "value": values["mean"] if np.isfinite(values["mean"]) else None,
                       "states": {k: v for k, v in values.items() if k != "mean" and np.isfinite(v)},
                       "fit_seconds": round(fitted.seconds, 2), "loss": fitted.loss}
        except (TfmetaError, ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            # One setting that diverges is a bad setting, not the end of the search.
            record["error"] = f"{type(error).__name__}: {error}"
        forget_graphs()
        filesystem.remove_tree(folder)
        return {**record, "seconds": round(time.monotonic() - begun, 2)}

    def _propose(self, system: System, trials: list[dict[str, Any]]) -> dict[str, Any]:
        if system.grid is not None:
            return dict(system.grid[len(trials)]) if system.grid else {}
        space = system.space
        if not trials:
            defaults = space.encoded(space.defaults())
            if defaults is not None:
                return space.defaults()
        import optuna

        # Seeded by the number of the trial: a function of the trials before it, not of when the process started.
        sampler = optuna.samplers.TPESampler(seed=self._seed * 1000 + len(trials), n_startup_trials=4)
        study = optuna.create_study(direction="minimize", sampler=sampler)
        distributions = space.distributions()
        for trial in trials:
            params = space.encoded(trial["params"])
            if params is None:
                continue
            value = None if trial["value"] is None else self._criterion.loss(trial["value"], metric=trial["criterion"])
            state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value,
                                                      state=state))
        return space.suggest(study.ask())


def require_optuna() -> None:
    """Raises ConfigError unless optuna can be imported; quietens it."""
    try:
        import optuna
    except ImportError:
        raise ConfigError("Tuning requires optuna, which is not installed: pip install 'tfmeta[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def forget_graphs() -> None:
    """Lets go of the graphs and variables of the last fit: a process does hundreds of them."""
    import gc
    import sys

    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
    gc.collect()
