"""Chooses the learner of a training configuration that names none."""

import dataclasses

from tfmeta.data.prepared_data import PreparedData
from trainer.config import TrainConfig


def resolve_learner(config: TrainConfig, prepared: PreparedData) -> TrainConfig:
    """Returns the configuration with a learner that has a name, which is chosen for the model and the data if absent.

    `tfmeta.models.default_learner.default_learner` says how. Of the data only the label's unit, its bounds and which
    labels occur in the training rows matter.

    Raises:
      ConfigError: if the model is unknown, or the learner's options are those of no learner.
    """
    if "name" in config.learner:
        return config
    from tfmeta.models.default_learner import default_learner
    from tfmeta.models.recommender import model_class

    label = prepared.feature_spec.label
    levels = prepared.training_rows.distinct_labels() if label.unit == "rating" else None
    found, options = model_class(config.model)
    return dataclasses.replace(config, learner=default_learner(
        label, model_class=found, model=options, learner=config.learner, levels=levels))
