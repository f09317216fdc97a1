"""The systems of a suite, from the registries and the packaged search spaces."""

import importlib.resources
from collections.abc import Sequence
from typing import Any

import yaml

from tfmeta import config
from tfmeta.baselines import BASELINES, baselines_for
from tfmeta.errors import ConfigError, suggest
from trainer.benchmarking.history_system import HistorySystem
from trainer.benchmarking.item_side_system import ItemSideSystem
from trainer.benchmarking.learner_system import LearnerSystem, known_options
from trainer.benchmarking.reference_system import ReferenceSystem
from trainer.benchmarking.search_space import SearchSpace, deep_merge
from trainer.benchmarking.system import System

# What says how a model or learner is trained beside its own settings, for names that a registry does not know.
_OTHER = "other"
# The family whose tasks are items.
_ITEM_SIDE = "item_side"


def build_systems(suite: str, *, learners: Sequence[str] | None = None, references: Sequence[str] | None = None,
                  configs: dict[str, str] | None = None, overrides: Sequence[str] = (), history: Sequence[str] = (),
                  unit: str = "rating", budget: int) -> list[System]:
    """Returns what is to be compared, references first.

    Args:
      suite: name of the file of search spaces.
      learners: names, each with or without `@scope`; default all that the registry and the spaces have. Those that
        count as references (joint training and so on) may stand in either list.
      references: names of baselines; default all for labels of that unit.
      configs: further systems by name: YAML training configurations that are taken as they are.
      overrides: `key.path=value` for the fixed settings of every learner; such a setting is searched no more.
      history: names of those learners that are also compared with a user's own training interactions as further
        support of cold items, as `<name>_history`.
      unit: of the suite's labels.
      budget: settings that each system may try.

    Raises:
      ConfigError: on an unknown name.
    """
    spaces = load_spaces(suite)
    known = _learner_names(spaces)
    roles = {name: _family(spaces, name)[1].get("role", "learner") for name in known}
    trained = [name for name in known if roles[name] == "reference"]
    if learners is None:
        learners = [name for name in known if roles[name] == "learner"]
    if references is None:
        references = [*baselines_for(unit, all_of_them=True), *trained]
    for name in learners:
        if name.partition("@")[0] not in known:
            raise ConfigError(f"Unknown learner '{name}'.{suggest(name, known)}")
    for name in references:
        if name not in BASELINES and name not in trained:
            raise ConfigError(f"Unknown reference '{name}'.{suggest(name, [*BASELINES, *trained])}")
    systems: list[System] = [
        ReferenceSystem(name, space=_reference_space(spaces, name), budget=budget)
        for name in references if name in BASELINES]
    systems += [_learner(spaces, name, overrides) for name in dict.fromkeys(
        [*(n for n in references if n not in BASELINES), *learners])]
    for name, path in (configs or {}).items():
        space = SearchSpace(config.apply_overrides(deep_merge(_quiet(spaces), config.load_yaml(path)), list(overrides)))
        family = _family(spaces, space.fixed["learner"]["name"])[0]
        systems.append(_class(family)(name, space=space, family=family))
    learning = {system.name: system for system in systems
                if isinstance(system, LearnerSystem) and not isinstance(system, ItemSideSystem)}
    for name in history:
        if name not in learning:
            raise ConfigError(f"A history requires a learner that is compared, received '{name}'."
                              f"{suggest(name, learning)}")
        systems.append(HistorySystem(learning[name]))
    names = [system.name for system in systems]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(f"Systems of a benchmark require distinct names; repeated: {', '.join(repeated)}.")
    return systems


def load_spaces(suite: str) -> dict[str, Any]:
    """Returns the common search spaces with those of the suite laid over them."""
    folder = importlib.resources.files("trainer.benchmarking") / "spaces"
    common, own = (yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8")) for name in ("common", suite))
    return deep_merge(common, own)


def learner_names(suite: str) -> list[str]:
    """Returns every learner of the registry and of the suite's spaces, references that are trained likewise."""
    return _learner_names(load_spaces(suite))


def _learner_names(spaces: dict[str, Any]) -> list[str]:
    from tfmeta.models.recommender import LEARNERS

    # A name of its own stands for settings of a learner that is registered.
    aliases = [name for name, entry in spaces["learners"].items()
               if ((entry or {}).get("fixed") or {}).get("learner", {}).get("name", name) in LEARNERS]
    found = dict.fromkeys([*LEARNERS, *aliases])
    order = [name for family in spaces["families"].values() for name in family["learners"]]
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def _family(spaces: dict[str, Any], name: str) -> tuple[str, dict[str, Any]]:
    for family, entry in spaces["families"].items():
        if name in entry["learners"]:
            return family, entry
    return _OTHER, {}


def _learner(spaces: dict[str, Any], asked: str, overrides: Sequence[str]) -> LearnerSystem:
    name, _, scope = asked.partition("@")
    family, family_entry = _family(spaces, name)
    own = spaces["learners"].get(name) or {}
    learner = (own.get("fixed") or {}).get("learner", {}).get("name", name)
    shared = SearchSpace().merged(spaces["common"]).merged(family_entry)
    shared = _only_known(shared, learner)
    space = shared.merged({"fixed": {"learner": {"name": learner}}}).merged(own)
    model = space.fixed["model"]
    known = known_options(model["name"], section="model")
    # Settings of another model than the learner's own are not meant for it.
    space.fixed["model"] = {key: value for key, value in model.items() if key == "name" or key in known}
    if scope:
        space.fixed["learner"]["scope"] = scope
    fixed = config.apply_overrides(space.fixed, list(overrides))
    paths = {override.partition("=")[0] for override in overrides}
    return _class(family)(f"{name}_{scope}" if scope else name, family=family, role=family_entry.get("role", "learner"),
                         space=SearchSpace(fixed, {p: d for p, d in space.search.items() if p not in paths}))


def _class(family: str) -> type[LearnerSystem]:
    return ItemSideSystem if family == _ITEM_SIDE else LearnerSystem


def _only_known(space: SearchSpace, learner: str) -> SearchSpace:
    """Leaves out shared settings of learners that this one does not have."""
    known = known_options(learner, section="learner")
    fixed = deep_merge(space.fixed, {})
    fixed["learner"] = {key: value for key, value in fixed.get("learner", {}).items() if key in known}
    return SearchSpace(fixed, {path: domain for path, domain in space.search.items()
                               if not path.startswith("learner.") or path.removeprefix("learner.") in known})


def _reference_space(spaces: dict[str, Any], name: str) -> SearchSpace | None:
    entry = (spaces.get("references") or {}).get(name)
    return None if entry is None else SearchSpace().merged(entry)


def _quiet(spaces: dict[str, Any]) -> dict[str, Any]:
    """What every run of the benchmark has in common, whatever its configuration."""
    return {key: spaces["common"]["fixed"][key]
            for key in ("early_stopping", "validation", "checkpoint", "tensorboard")}
