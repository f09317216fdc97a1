"""What a learner must beat: simple models, tuned with the learner's budget, on the learner's tasks.

A new baseline is one file and one line in `BASELINES`.
"""

from tfmeta.baselines.als_fold_in import ALSFoldIn
from tfmeta.baselines.als_implicit import ALSImplicit
from tfmeta.baselines.baseline import Baseline
from tfmeta.baselines.content_ridge import ContentRidge
from tfmeta.baselines.damped_bias import DampedBias
from tfmeta.baselines.item_knn import ItemKNN
from tfmeta.baselines.item_knn_implicit import ItemKNNImplicit
from tfmeta.baselines.item_mean import ItemMean
from tfmeta.baselines.popularity import Popularity
from tfmeta.baselines.random_scores import RandomScores
from tfmeta.baselines.two_tower_tfrs import TwoTowerTFRS
from tfmeta.baselines.user_mean import UserMean
from tfmeta.errors import ConfigError, suggest

BASELINES: dict[str, type[Baseline]] = {cls.name: cls for cls in (
    RandomScores, Popularity, ItemMean, UserMean, DampedBias, ContentRidge, ALSFoldIn, ItemKNN,
    ALSImplicit, ItemKNNImplicit, TwoTowerTFRS)}

__all__ = ["BASELINES", "Baseline", "baselines_for", "build_baseline"]


def baselines_for(unit: str, *, all_of_them: bool = False) -> tuple[str, ...]:
    """Returns the names of the baselines that are made for labels of that unit.

    Args:
      unit: of the label.
      all_of_them: also those that an evaluation has only by name, because they take minutes or need an extra.
    """
    return tuple(name for name, cls in BASELINES.items() if unit in cls.made_for and (cls.by_default or all_of_them))


def build_baseline(name: str, **params) -> Baseline:
    """Returns an unfitted baseline; ConfigError on an unknown name or hyper-parameter."""
    from tfmeta import config

    if name not in BASELINES:
        raise ConfigError(f"Unknown baseline '{name}'.{suggest(name, BASELINES)}")
    return config.parse(BASELINES[name], params, where=f"baselines.{name}")
