"""An item-side learner in the benchmark."""

from typing import Any

from tfmeta.data.item_side import write_item_side
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import DataError, RunError
from tfmeta.io import filesystem
from trainer.benchmarking.learner_system import LearnerSystem
from trainer.benchmarking.system import Fitted


class ItemSideSystem(LearnerSystem):
    """A learner whose tasks are items (MetaEmb, MWUF), trained on the item-side twin of the data.

    It answers the same questions as every other system through `ItemTaskScorer`: an item by its training interactions,
    a cold one by its content; a user by features and, where trained on, by id.
    """

    def _check_spec(self, prepared: PreparedData):
        return prepared.feature_spec.swap_sides()

    def fit(self, values: dict[str, Any], *, prepared: PreparedData, seed: int, folder: str) -> Fitted:
        from trainer.evaluation.item_task_scorer import ItemTaskScorer

        twin = item_side_twin(prepared)
        config, run, result = self._train(values, prepared=twin, seed=seed, folder=folder)
        scorer = ItemTaskScorer(run.recommender(), users=prepared, items=twin, name=self.name,
                                support_size=config.sampler.support_width or 100)
        return self._fitted(scorer, run, result)


def item_side_twin(prepared: PreparedData) -> PreparedData:
    """Returns the item-side twin beside a prepared directory; writes it where it is not there yet."""
    path = f"{prepared.path}-items"
    if not filesystem.exists(path):
        try:
            return write_item_side(prepared, out=path)
        except (DataError, OSError):
            if not filesystem.exists(path):  # else another process was faster
                raise
    twin = PreparedData(path)
    if twin.summary.get("item_side_of") != prepared.training_fingerprint():
        raise RunError(f"'{path}' requires the item side of '{prepared.path}', received that of other data. Remove it.")
    return twin
