"""A search space for one model's training configuration, and the same for a tuning service."""

import json
from collections.abc import Mapping
from typing import Any

from tfmeta import config
from tfmeta.errors import ConfigError
from trainer.benchmarking.search_space import SearchSpace
from trainer.config import TrainConfig

# What decides most, for every learner.
DEFAULT_SEARCH: dict[str, Any] = {
    "optimizer.learning_rate": {"low": 0.0005, "high": 0.02, "log": True},
    "item_id_dropout": {"low": 0.0, "high": 0.5},
    "model.embedding_dim": [8, 16, 32]}


def tuning_space(base: TrainConfig, *, search: Mapping[str, Any] | None = None) -> SearchSpace:
    """Returns the space of a configuration whose values are the first trial, where it has them all.

    Args:
      base: everything that is not searched.
      search: dotted path -> domain, see `SearchSpace`; None for `DEFAULT_SEARCH`.

    Raises:
      ConfigError: if a domain is malformed, or one of its ends or choices is no value of its setting.
    """
    space = SearchSpace(config.to_dict(base), dict(DEFAULT_SEARCH if search is None else search))
    for path, domain in space.search.items():
        for value in domain if isinstance(domain, list) else (domain["low"], domain["high"]):
            try:
                config.parse(TrainConfig, space.apply({path: value}))
            except ConfigError as error:
                raise ConfigError(f"The search space of '{path}': {error}") from None
    return space


def vertex_study(space: SearchSpace, *, metric: str) -> dict[str, Any]:
    """Returns the StudySpec of Vertex AI's REST interface for a space, for trials that run `trainer.task`.

    Dots in names are written as `__`. Choices that are not all numbers are categories, written as YAML.

    Args:
      space: what is searched.
      metric: that trials report, such as `val_mae`.
    """
    from tfmeta.metrics import lower_is_better

    goal = "MINIMIZE" if lower_is_better(metric.removeprefix("val_")) else "MAXIMIZE"
    return {"metrics": [{"metricId": metric, "goal": goal}],
            "parameters": [_parameter(path, domain) for path, domain in space.search.items()]}


def _parameter(path: str, domain: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"parameterId": path.replace(".", "__")}
    if isinstance(domain, list):
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in domain):
            return found | {"discreteValueSpec": {"values": sorted(map(float, domain))}}
        return found | {"categoricalValueSpec": {"values": [json.dumps(v) for v in domain]}}
    scale = "UNIT_LOG_SCALE" if domain.get("log") else "UNIT_LINEAR_SCALE"
    if domain.get("integer"):
        bounds = {"minValue": str(int(domain["low"])), "maxValue": str(int(domain["high"]))}
        return found | {"scaleType": scale, "integerValueSpec": bounds}
    bounds = {"minValue": float(domain["low"]), "maxValue": float(domain["high"])}
    return found | {"scaleType": scale, "doubleValueSpec": bounds}
