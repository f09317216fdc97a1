"""A learner in the benchmark that also sees what a warm user was trained on."""

import dataclasses
import os
from typing import Any

from tfmeta.data.prepared_data import PreparedData
from trainer.benchmarking.learner_system import LearnerSystem
from trainer.benchmarking.system import Fitted, System
from trainer.evaluation.history_scorer import HistoryScorer


class HistorySystem(System):
    """A learner, its item-cold supports lengthened by the user's own training interactions (`HistoryScorer`).

    It is trained as the learner is, from whose finished run it takes the weights where there is one. In the other
    states it would be the learner again. As it knows more than the others do, it is never the selected learner.

    Args:
      learner: what is trained.
      limit: training interactions of a user that are added, the last ones by time.
    """

    seeded, selectable, states = True, False, ("item_cold",)

    def __init__(self, learner: LearnerSystem, *, limit: int = 120):
        self.learner, self.limit = learner, limit
        self.name = f"{learner.name}_history"
        self.role, self.family, self.space = learner.role, learner.family, learner.space

    def check(self, prepared: PreparedData) -> None:
        self.learner.check(prepared)

    def fit(self, values: dict[str, Any], *, prepared: PreparedData, seed: int, folder: str) -> Fitted:
        parent, name = os.path.split(folder)
        if name.startswith(f"{self.name}-"):
            # A final run: its name's key holds settings, seed and data, so the learner's own has the same weights.
            folder = os.path.join(parent, self.learner.name + name.removeprefix(self.name))
        fitted = self.learner.fit(values, prepared=prepared, seed=seed, folder=folder)
        return dataclasses.replace(fitted, scorer=HistoryScorer(
            fitted.scorer, prepared.train, states=self.states, limit=self.limit))
