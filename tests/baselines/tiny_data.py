"""Small training data and tasks with known structure, without a prepared directory."""

import types

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_set import TaskSet

USERS, WARM, COLD = 30, 12, 4
ITEMS = WARM + COLD


def make_tasks(rng, *, count=20, items=WARM, support=6, query=4, low_support=0):
    """Random tasks over item rows below `items`."""
    length = rng.integers(low_support, support + 1, count).astype(np.int32)
    real = np.arange(support)[None, :] < length[:, None]
    picked = np.argsort(rng.random((count, items)), axis=1)[:, :support + query].astype(np.int32)
    labels = rng.integers(1, 6, (count, support + query)).astype(np.float32)
    return TaskSet(
        state=np.array(["user_cold", "item_cold"])[np.arange(count) % 2], user_row=np.arange(count, dtype=np.int32),
        split=np.zeros(count, np.int32), support_item=np.where(real, picked[:, :support], -1).astype(np.int32),
        support_label=np.where(real, labels[:, :support], np.nan).astype(np.float32), support_length=length,
        query_item=picked[:, support:], query_label=labels[:, support:],
        query_length=np.full(count, query, np.int32))


def make_prepared(seed=0, *, unit="rating"):
    """Ratings `3 + item effect of its genre + user effect + noise`; the last COLD items are never rated."""
    rng = np.random.default_rng(seed)
    genre = np.arange(ITEMS) % 3
    known = rng.random((USERS, WARM)) < 0.6
    user, item = np.nonzero(known)
    label = 3 + np.array([-1.0, 0.0, 1.0])[genre[item]] + rng.normal(0, 0.7, USERS)[user]
    label = np.clip(np.round(label + rng.normal(0, 0.5, len(user))), 1, 5).astype(np.float32)
    if unit == "click":
        label = np.ones_like(label)
    low, high = (1.0, 5.0) if unit == "rating" else (0.0, 1.0)
    spec = FeatureSpec(
        label=Label("y", unit, low, high, 4.0 if unit == "rating" else 1.0, float(label.mean()), 1.0),
        user_id=Feature("user", "categorical", "string", vocabulary=tuple(f"u{i}" for i in range(USERS))),
        item_id=Feature("item", "categorical", "string", vocabulary=tuple(f"i{i}" for i in range(WARM))),
        item_features=(Feature("genre", "categorical", "string", vocabulary=("g0", "g1", "g2")),))
    validation = make_tasks(rng, items=ITEMS)
    return types.SimpleNamespace(
        train=Interactions(user.astype(np.int32), item.astype(np.int32), label, np.zeros(len(user), np.int64)),
        users=pd.DataFrame({"user_id": [f"u{i}" for i in range(USERS)]}),
        items=pd.DataFrame({"item_id": [f"i{i}" for i in range(ITEMS)], "genre": [f"g{g}" for g in genre]}),
        feature_spec=spec, path="tiny", tasks=lambda part: validation)
