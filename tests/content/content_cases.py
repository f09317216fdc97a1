"""Small items with every kind of feature, and targets for them."""

import functools

import numpy as np
import pandas as pd

from tfmeta.content.item_targets import ItemTargets
from tfmeta.data.feature import Feature
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig

FEATURES = (Feature("city", "categorical", "string", vocabulary=("a",)),
            Feature("cast", "multi_categorical", "string", length=3, vocabulary=("a",)),
            Feature("plot", "text", "string", length=4, hash_buckets=8),
            Feature("vector", "dense_vector", "float32", length=2), Feature("price", "numeric", "float32"))
WORDS = np.array(["red", "green", "blue", "grey", "teal", "rose", "plum", "sand"])


def make_items(count=36, *, seed=0) -> pd.DataFrame:
    """Returns items, each seventh without a value in one of the features."""
    rng = np.random.default_rng([seed, 7])
    items = pd.DataFrame({"city": rng.choice(WORDS, count),
                          "plot": [" ".join(rng.choice(WORDS, 3)) for _ in range(count)],
                          "price": rng.normal(size=count).astype(np.float32)})
    items["cast"] = pd.Series([rng.choice(WORDS, 1 + i % 3).astype(object) for i in range(count)], dtype=object)
    items["vector"] = pd.Series(list(rng.normal(size=(count, 2)).astype(np.float32)), dtype=object)
    items.loc[::7, "price"] = np.nan
    items.loc[1::7, "city"] = ""
    items.loc[2::7, "plot"] = ""
    for row in range(3, count, 7):
        items.at[row, "vector"] = np.full(2, np.nan, np.float32)
        items.at[row + 1 if row + 1 < count else row, "cast"] = np.array([], object)
    return items


def make_targets(count=36, *, cold=8, factors=3, seed=0) -> ItemTargets:
    """Returns targets of which the last `cold` have no interactions."""
    rng = np.random.default_rng([seed, 8])
    interactions = rng.integers(1, 60, count)
    interactions[count - cold:] = 0
    known = (interactions > 0)[:, None]
    noise = np.column_stack([np.full(count, 2.0), np.full((count, factors), 6.0)])
    return ItemTargets(rng.normal(size=(count, 1 + factors)) * known, noise / np.maximum(interactions, 1)[:, None],
                       interactions)


@functools.cache
def synthetic():
    """Returns small raw data; its items have a feature of every kind, and titles."""
    return generate(SyntheticConfig(users=100, items=120, ratings_per_user=40, item_bias_share=0.3, seed=4))[0]
