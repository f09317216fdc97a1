"""Small recommenders of every model and scope, and a catalogue."""

import dataclasses

import numpy as np
import pandas as pd

MODES = ("catalogue", "request")
# Each unit of the label occurs.
COMBINATIONS = [(model, scope, unit, mode)
                for model, scope, unit in (("two_tower", "user_vector", "rating"), ("two_tower", "all", "click"),
                                           ("embedding", "head", "rating"), ("embedding", "all", "weight"))
                for mode in MODES]
# Each model and scope once, each mode with both models; the others are the slow suite's.
FAST = [COMBINATIONS[i] for i in (0, 3, 5, 6)]
BOUND = 8
NUM_ITEMS = 12


@dataclasses.dataclass
class Exported:
    path: str
    mode: str
    recommender: object
    items: pd.DataFrame


def combinations(keys=COMBINATIONS):
    """Parameters of a test on exports; those that are not in FAST are slow."""
    import pytest

    return [pytest.param(key, id="_".join(key), marks=() if key in FAST else pytest.mark.slow) for key in keys]


def make_spec(unit: str = "rating", *, plain: bool = False):
    """Every kind of feature, with awkward names; `plain` has integer ids and no features of users."""
    from tfmeta.data.feature import Feature
    from tfmeta.data.feature_spec import FeatureSpec
    from tfmeta.data.label import Label

    label = {"rating": Label("rating", mean=3.4, std=1.1),
             "click": Label("click", unit="click", minimum=0, maximum=1, threshold=1),
             "weight": Label("weight", unit="weight", minimum=0, maximum=50, threshold=1)}[unit]
    ids = tuple(range(NUM_ITEMS - 3)) if plain else tuple(f"m{i}" for i in range(NUM_ITEMS - 3))
    genres = Feature("genres", "multi_categorical", "string", length=3, vocabulary=("a", "b", "c"))
    return FeatureSpec(
        label=label,
        user_id=Feature("user_id", "categorical", "int64", vocabulary=(1, 2)),
        item_id=Feature("movie_id", "categorical", "int64" if plain else "string", vocabulary=ids),
        user_features=() if plain else (
            Feature("zip-code", "categorical", "string", vocabulary=("0", "1")),
            Feature("age", "numeric", "float32", mean=(30.0,), std=(10.0,))),
        item_features=(genres,) if plain else (
            genres,
            Feature("release-year", "numeric", "float32", mean=(1990.0,), std=(10.0,)),
            Feature("plot", "text", "string", length=4, hash_buckets=20),
            Feature("vector", "dense_vector", "float32", length=3, mean=(0.0,) * 3, std=(1.0,) * 3)))


def make_items(*, plain: bool = False, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    words = ["blue", "night", "river", "summer", "story"]
    frame = pd.DataFrame({"item_id": range(NUM_ITEMS) if plain else [f"m{i}" for i in range(NUM_ITEMS)],
                          "genres": [list(rng.choice(["a", "b", "c", "d"], i % 4)) for i in range(NUM_ITEMS)]})
    if not plain:
        frame["release-year"] = rng.integers(1950, 2020, NUM_ITEMS).astype(float)
        frame["plot"] = [" ".join(rng.choice(words, 3)) for _ in range(NUM_ITEMS)]
        frame["vector"] = list(rng.normal(size=(NUM_ITEMS, 3)))
        frame.loc[3, "release-year"] = np.nan
    return frame


def make_recommender(model: str = "two_tower", scope: str = "user_vector", unit: str = "rating", *,
                     plain: bool = False, seed: int = 0):
    """Every weight is random, so that no path is hidden behind a zero."""
    from tfmeta.models.recommender import build_recommender

    widths = {"two_tower": {"vector_dim": 4, "user_units": [5], "item_units": [5]}, "embedding": {"units": [6]}}
    recommender = build_recommender(make_spec(unit, plain=plain), learner={"scope": scope, "inner_steps": 2},
                                    model={"name": model, "embedding_dim": 3, "use_item_id": True, **widths[model]})
    rng = np.random.default_rng(seed)
    for variable in recommender.variables:
        rates = "log_inner_rate" in variable.path
        value = rng.normal(scale=0.2, size=variable.shape) + (np.log(0.05) if rates else 0)
        variable.assign(value.astype("float32"))
    return recommender
