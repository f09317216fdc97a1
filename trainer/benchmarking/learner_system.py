"""A learner in the benchmark."""

from typing import Any

from tfmeta import config
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import ConfigError
from tfmeta.io import filesystem
from trainer.benchmarking.search_space import SearchSpace
from trainer.benchmarking.system import Fitted, System
from trainer.config import TrainConfig


class LearnerSystem(System):
    """Meta-trains with a training configuration; a reference that is trained like a learner is one, too.

    Args:
      name: of the system.
      space: of training configurations.
      family, role: see `System`.
    """

    seeded = True

    def __init__(self, name: str, *, space: SearchSpace, family: str, role: str = "learner"):
        self.name, self.space, self.family, self.role = name, space, family, role

    def check(self, prepared: PreparedData) -> None:
        from trainer.run_directory import build_from_config

        try:
            parsed = config.parse(TrainConfig, self.space.fixed)
            build_from_config(parsed, self._check_spec(prepared))
            for path in self.space.search:
                if path.startswith("learner.") or path.startswith("model."):
                    section, _, key = path.partition(".")
                    if key not in known_options(self.space.fixed[section]["name"], section=section):
                        raise ConfigError(f"The search space has '{path}', which '{section}' has not.")
        except ConfigError as error:
            where = f"Learner '{self.name}'"
            raise ConfigError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None

    def fit(self, values: dict[str, Any], *, prepared: PreparedData, seed: int, folder: str) -> Fitted:
        from tfmeta.data.feature_tables import FeatureTables
        from trainer.evaluation.recommender_scorer import RecommenderScorer

        _, run, result = self._train(values, prepared=prepared, seed=seed, folder=folder)
        tables = FeatureTables.from_prepared(prepared, feature_spec=run.feature_spec)
        return self._fitted(RecommenderScorer(run.recommender(), tables=tables, name=self.name), run, result)

    def _check_spec(self, prepared: PreparedData) -> FeatureSpec:
        return prepared.feature_spec

    def _train(self, values, *, prepared: PreparedData, seed: int, folder: str):
        import tensorflow as tf

        from trainer.loop import train
        from trainer.run_directory import RunDirectory

        # A process fits many models, each with graphs of its own: what TensorFlow warns of is meant.
        tf.get_logger().setLevel("ERROR")
        parsed = config.parse(TrainConfig, {**values, "seed": seed})
        result = train(config=parsed, data=prepared, run=folder, resume=filesystem.exists(folder), progress=False)
        return parsed, RunDirectory.open(folder), result

    def _fitted(self, scorer, run, result) -> Fitted:
        scorer.role, scorer.seeded = self.role, True
        losses = [record["train_loss"] for record in result.history]
        return Fitted(scorer, seconds=result.seconds, parameters=run.summary["parameters"],
                      loss=(losses[0], losses[-1]))


def known_options(name: str, *, section: str) -> set[str]:
    """Returns the options that a model or learner takes in a configuration, `scope` included.

    Raises:
      ConfigError: on an unknown name.
    """
    import importlib
    import inspect

    from tfmeta.errors import suggest
    from tfmeta.models.recommender import LEARNERS, MODELS

    registry = {"learner": LEARNERS, "model": MODELS}[section]
    if name not in registry:
        raise ConfigError(f"'{section}.name' received '{name}'.{suggest(name, registry)}")
    module, _, attribute = registry[name].partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), attribute).__init__)
    names = {p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    return (names - {"name", "seed"}) | ({"scope"} if section == "learner" else set())
