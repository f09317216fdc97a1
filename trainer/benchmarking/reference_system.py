"""A baseline in the benchmark."""

import dataclasses
import time
from typing import Any

from tfmeta.baselines import BASELINES, build_baseline
from tfmeta.data.prepared_data import PreparedData
from trainer.benchmarking.search_space import SearchSpace
from trainer.benchmarking.system import Fitted, System


class ReferenceSystem(System):
    """Fits a baseline of `BASELINES`.

    Args:
      name: key of the registry.
      space: of its hyper-parameters; None takes its own grid, tried one by one where it has at most `budget` settings
        and searched otherwise.
      budget: settings that are tried.
    """

    role, family = "reference", "reference"

    def __init__(self, name: str, *, space: SearchSpace | None = None, budget: int):
        self.name = name
        self.seeded = any(f.name == "seed" for f in dataclasses.fields(BASELINES[name]))
        if space is None:
            grid = BASELINES[name].grid()
            keys = list(dict.fromkeys(key for setting in grid for key in setting))
            domains = {key: list(dict.fromkeys(s[key] for s in grid if key in s)) for key in keys}
            # The first trial is what the class takes by itself, where the grid has that, else the grid's first.
            own = {key: dataclasses.asdict(BASELINES[name]())[key] for key in keys}
            if not all(own[key] in domains[key] for key in keys):
                own |= grid[0]
            space = SearchSpace(own, domains)
            if len(grid) <= budget:
                self.grid = tuple(grid)
        self.space = space

    def check(self, prepared: PreparedData) -> None:
        build_baseline(self.name, **self.space.fixed)

    def fit(self, values: dict[str, Any], *, prepared: PreparedData, seed: int, folder: str) -> Fitted:
        begun = time.monotonic()
        if self.seeded:
            values = {**values, "seed": seed}
        fitted = build_baseline(self.name, **values).fit(prepared)
        fitted.seeded = self.seeded
        return Fitted(fitted, seconds=time.monotonic() - begun)
