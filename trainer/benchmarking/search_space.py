"""Which settings of a system are fixed and which are searched."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from tfmeta.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """A nested mapping of fixed settings and a domain for each setting that is searched.

    A domain is a list of choices, or `{low, high}` with `log: true` for a logarithmic scale and `integer: true` for
    whole numbers, both ends included.

    Attributes:
      fixed: nested settings; of a searched one, its default.
      search: dotted path -> domain.

    Raises:
      ConfigError: if a domain is neither.
    """

    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    search: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for path, domain in self.search.items():
            choices = isinstance(domain, list) and len(domain) > 0
            interval = (isinstance(domain, dict) and {"low", "high"} <= set(domain) <= {"low", "high", "log", "integer"}
                        and domain["low"] < domain["high"] and (not domain.get("log") or domain["low"] > 0))
            if not (choices or interval):
                raise ConfigError(f"The search space of '{path}' requires a list of choices or low < high (positive "
                                  f"with log), received {domain!r}.")

    def merged(self, other: Mapping[str, Any] | None) -> "SearchSpace":
        """Returns this space with `fixed` and `search` of another one laid over it; a domain of None is removed."""
        other = other or {}
        search = {**self.search, **(other.get("search") or {})}
        return SearchSpace(deep_merge(self.fixed, other.get("fixed") or {}),
                           {path: domain for path, domain in search.items() if domain is not None})

    def defaults(self) -> dict[str, Any]:
        """Returns the fixed values of the searched settings that have one: the first trial."""
        found = {}
        for path in self.search:
            *parents, last = path.split(".")
            node: Any = self.fixed
            for part in parents:
                node = node.get(part) if isinstance(node, dict) else None
            if isinstance(node, dict) and last in node:  # None may be a choice
                found[path] = node[last]
        return found

    def suggest(self, trial) -> dict[str, Any]:
        """Returns the searched settings of an optuna trial by path."""
        chosen = {}
        for path, domain in self.search.items():
            if isinstance(domain, list):
                # By position: optuna wants scalars, a choice may be a list.
                chosen[path] = domain[trial.suggest_categorical(path, list(range(len(domain))))]
            elif domain.get("integer"):
                chosen[path] = trial.suggest_int(path, domain["low"], domain["high"], log=domain.get("log", False))
            else:
                chosen[path] = trial.suggest_float(path, domain["low"], domain["high"], log=domain.get("log", False))
        return chosen

    def encoded(self, chosen: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns what `suggest` would have been given to choose so, None where it lies outside the domains."""
        values = {}
        for path, domain in self.search.items():
            if path not in chosen:
                return None
            value = chosen[path]
            if isinstance(domain, list):
                if value not in domain:
                    return None
                values[path] = domain.index(value)
            elif not domain["low"] <= value <= domain["high"]:
                return None
            else:
                values[path] = value
        return values

    def distributions(self) -> dict[str, Any]:
        """Returns the domains as optuna's distributions."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        result = {}
        for path, domain in self.search.items():
            if isinstance(domain, list):
                result[path] = CategoricalDistribution(list(range(len(domain))))
            else:
                kind = IntDistribution if domain.get("integer") else FloatDistribution
                result[path] = kind(domain["low"], domain["high"], log=domain.get("log", False))
        return result

    def apply(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the fixed settings with chosen ones, by path, put in."""
        values = copy.deepcopy(self.fixed)
        for path, value in chosen.items():
            *parents, last = path.split(".")
            node = values
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = value
        return values


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with `over` laid over it, mapping by mapping."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = deep_merge(result[key], value) if both else copy.deepcopy(value)
    return result
