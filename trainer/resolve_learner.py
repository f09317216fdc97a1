"""Chooses the learner of a training configuration that names none, and refuses one that could learn nothing."""

import dataclasses
import logging

from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import ConfigError
from trainer.config import TrainConfig

_LOG = logging.getLogger(__name__)
# So many positives are rather visits with a few stray rows among them than answers of both kinds.
_NEARLY_ALL = 0.99


def resolve_learner(config: TrainConfig, prepared: PreparedData) -> TrainConfig:
    """Returns the configuration with a learner that has a name, which is chosen for the model and the data if absent.

    `tfmeta.models.default_learner.default_learner` says how. Of the data only the label's unit, its bounds and which
    labels occur in the training rows matter. A few labels that are not positive among many that are make another
    choice, which is logged as a warning.

    Raises:
      ConfigError: if the model is unknown, the learner's options are those of no learner, or all training labels are
        positive and the outer loss needs others.
    """
    from tfmeta.learners.losses import BY_UNIT, SOFTMAX
    from tfmeta.models.default_learner import default_learner
    from tfmeta.models.recommender import model_class

    label = prepared.feature_spec.label
    rows, ratings = prepared.training_rows, label.unit == "rating"
    found = None if ratings or config.sampler.negatives else rows.label_summary()
    positives_only = found is not None and found[0] > 0
    alike = positives_only and found[0] == found[1]
    if "name" not in config.learner:
        if found is not None and found[0] <= 0 and found[2] >= _NEARLY_ALL:
            _LOG.warning("Only %d of %d training labels are not positive; the default learner takes them for answers "
                         "like the others. If they are strays, remove them, or set learner.outer_loss=softmax to "
                         "learn from the positives alone.", round(rows.num_rows * (1 - found[2])), rows.num_rows)
        cls, options = model_class(config.model)
        config = dataclasses.replace(config, learner=default_learner(
            label, model_class=cls, model=options, learner=config.learner, positives_only=positives_only, alike=alike,
            levels=rows.distinct_labels() if ratings else None))
    loss = config.learner.get("outer_loss") or BY_UNIT[label.unit][1]
    # Weights that differ have an order that a pairwise loss learns.
    if positives_only and loss != SOFTMAX and not (loss == "pairwise" and not alike):
        raise ConfigError(f"Outer loss '{loss}' requires interactions that are not positive, received a training set "
                          "of positive ones alone, from which it learns nothing. Draw negatives, such as "
                          "sampler.negatives=50, or set learner.outer_loss=softmax where the learner's scores are "
                          "products of vectors (two_tower with ridge or maml).")
    return config
