"""A small model's features, and events to log."""

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.label import Label

DAY = 86_400
START = 1_700_006_400  # 2023-11-15, midnight UTC


def make_spec() -> FeatureSpec:
    return FeatureSpec(
        label=Label(name="stars"), title="name",
        user_id=Feature("user", "categorical", "string", vocabulary=()),
        item_id=Feature("product", "categorical", "string", vocabulary=()),
        user_features=(Feature("country", "categorical", "string", vocabulary=("de", "fr")),),
        item_features=(Feature("price", "numeric", "float32", mean=(0.0,), std=(1.0,)),
                       Feature("tags", "multi_categorical", "string", length=3, vocabulary=("a", "b"))))


def make_outcomes(rows: int = 300, *, days: int = 4, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng([seed, 7])
    # Each row at a second of its own, so no two have one derived id.
    time = START + np.sort(rng.choice(days * DAY, rows, replace=False))
    users, items = (rng.integers(0, n, rows).astype(str) for n in (40, 30))
    return pd.DataFrame({"user": users, "product": items, "stars": rng.integers(1, 6, rows).astype(float),
                         "time": time})


def as_logged(frame: pd.DataFrame) -> pd.DataFrame:
    """What `EventLog.outcomes` must give for rows that are all good, each at a time of its own."""
    frame = frame.sort_values("time", ignore_index=True)
    return frame.rename(columns={"user": "user_id", "product": "item_id", "stars": "label"})[
        ["user_id", "item_id", "label", "time"]].astype({"user_id": "str", "item_id": "str"})
