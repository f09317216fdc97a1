"""Tuned and fitted baselines for an evaluation."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from tfmeta import __version__
from tfmeta.baselines import BASELINES, Baseline, build_baseline
from tfmeta.baselines.tuning import BUDGET, Measure, tune
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import ConfigError, suggest
from tfmeta.io import filesystem
from trainer.evaluation.positives_only import METRICS, catalogue_of, positives_only


@dataclasses.dataclass(frozen=True)
class References:
    """Baselines ready to score.

    Attributes:
      fitted: in the order asked for.
      params: name -> hyper-parameters.
      tuned: whether they were chosen on validation tasks; otherwise they are the defaults.
    """

    fitted: tuple[Baseline, ...]
    params: dict[str, dict[str, Any]]
    tuned: bool


def fit_references(names: Sequence[str], prepared: PreparedData, *, tuning_data: PreparedData | None = None,
                   cache: str | None = None, budget: int = BUDGET,
                   progress: Callable[[str], Any] | None = None) -> References:
    """Tunes baselines on validation tasks and fits them on the training data of the evaluation.

    Args:
      names: keys of `BASELINES`.
      prepared: training data to fit on.
      tuning_data: directory whose validation tasks choose the hyper-parameters; default `prepared` itself.
        Without validation tasks there, the defaults are taken.
      cache: JSON file that keeps the choice, keyed by the tuning data's training fingerprint.
      budget: settings tried per baseline.
      progress: called with a description before each baseline is tuned and fitted.

    Raises:
      ConfigError: on an unknown name.
    """
    for name in names:
        if name not in BASELINES:
            raise ConfigError(f"Unknown baseline '{name}'.{suggest(name, BASELINES)}")
    report = progress or (lambda text: None)
    tuning_data = tuning_data or prepared
    tunable = len(tuning_data.tasks("validation")) > 0
    measure = _measure(tuning_data)
    known = _read(cache) if tunable else {}
    params, fitted = {}, []
    for name in names:
        report(f"baseline {name}")
        if tunable:
            key = _key(name, tuning_data, budget, *measure[:1])
            if known.get(name, {}).get("key") != key:
                chosen = tune(name, tuning_data, budget=budget, measure=measure or None).params
                known[name] = {"key": key, "params": chosen}
                if cache is not None:
                    filesystem.write_text(cache, json.dumps(known, indent=2) + "\n")
            params[name] = known[name]["params"]
        else:
            params[name] = {}
        fitted.append(build_baseline(name, **params[name]).fit(prepared))
    return References(tuple(fitted), params, tunable)


def _measure(prepared: PreparedData) -> tuple[str, Measure] | tuple[()]:
    """Returns what baselines are tuned by where the labels of a query say nothing, with its name."""
    if not positives_only(prepared.tasks("validation"), prepared.feature_spec.label):
        return ()
    catalogue = catalogue_of(prepared)
    return METRICS[0], lambda baseline, blind, tasks: catalogue.measure(baseline, blind, part=tasks)[METRICS[0]]


def _key(name: str, tuning_data: PreparedData, budget: int, *criterion: str) -> str:
    content = json.dumps([tuning_data.training_fingerprint(), __version__, BASELINES[name].grid(), budget, *criterion])
    return hashlib.sha256(content.encode()).hexdigest()


def _read(cache: str | None) -> dict[str, Any]:
    if cache is None or not filesystem.exists(cache):
        return {}
    try:
        content = json.loads(filesystem.read_text(cache))
    except json.JSONDecodeError:  # A cache: whatever is wrong with it, it is made again.
        return {}
    return content if isinstance(content, dict) else {}
