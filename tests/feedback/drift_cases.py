"""Windows drawn from a distribution that a test can change in one thing."""

import dataclasses

import numpy as np
import pandas as pd
from event_cases import START, make_spec

from tfmeta.data.feature import Feature
from trainer.feedback.drift import Window

ITEMS = 60
_WORDS = np.array(["love", "war", "space", "sea", "city", "winter", "dog", "king"])


def drift_spec():
    """Every kind of feature."""
    return dataclasses.replace(make_spec(), user_features=(
        Feature("country", "categorical", "string", vocabulary=()),
        Feature("age", "numeric", "float32", mean=(0.0,), std=(1.0,)),
        Feature("taste", "dense_vector", "float32", length=3, mean=(0.0,) * 3, std=(1.0,) * 3)), item_features=(
        Feature("price", "numeric", "float32", mean=(0.0,), std=(1.0,)),
        Feature("tags", "multi_categorical", "string", length=3, vocabulary=()),
        Feature("plot", "text", "string", length=8, hash_buckets=16)))


def make_items(items: int = ITEMS) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame({
        "item_id": [f"i{i}" for i in range(items)], "price": np.linspace(1, 10, items).astype(np.float32),
        "tags": [["a", "b", "c"][:1 + i % 3] for i in range(items)],
        "plot": [" ".join(rng.choice(_WORDS, 4)) for _ in range(items)]})


def make_window(seed: int, users: int, *, mean: int = 12, popular=None, country=(0.7, 0.3), older: float = 0.0,
                taste: float = 0.0, label: float = 0.0, prefix: str = "i") -> Window:
    """Draws a window; users have a taste of their own, so their labels are not independent of each other.

    Args:
      seed, users: of the draw.
      mean: interactions a user.
      popular: `[ITEMS]` weights of the items; by default a power law.
      country: shares of `de` and `fr`.
      older, taste, label: added to everybody's age, to the last dimension of the vector, to every label.
      prefix: of the item ids; another one makes all items new.
    """
    rng = np.random.default_rng([seed, users, 3])
    ids = np.array([f"u{seed}-{i}" for i in range(users)])
    length = rng.poisson(mean - 1, users) + 1
    weights = 1.0 / np.arange(1, ITEMS + 1) ** 0.6 if popular is None else np.asarray(popular, float)
    row = np.repeat(np.arange(users), length)
    item = rng.choice(ITEMS, len(row), p=weights / weights.sum())
    stars = np.clip(np.round(3.5 + rng.normal(0, 0.7, users)[row] + label + rng.normal(0, 1, len(row))), 1, 5)
    rows = pd.DataFrame({"user_id": ids[row], "item_id": [f"{prefix}{i}" for i in item], "label": stars,
                         "time": START + np.arange(len(row))}).drop_duplicates(["user_id", "item_id"])
    vectors = rng.normal(size=(users, 3)).astype(np.float32) + np.float32([0, 0, taste])
    people = pd.DataFrame({"user_id": ids, "country": rng.choice(["de", "fr"], users, p=country),
                           "age": (rng.normal(40, 10, users) + older).astype(np.float32), "taste": list(vectors)})
    items = make_items()
    items["item_id"] = items["item_id"].str.replace("i", prefix)
    return Window(people, items[items["item_id"].isin(set(rows["item_id"]))], rows)
