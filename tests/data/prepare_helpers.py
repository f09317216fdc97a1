"""Small data for the tests of preparation."""

import functools
import os
import pathlib

import numpy as np
import pandas as pd
import pytest

from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("TFMETA_SHARED", REPOSITORY.parent / "shared"))

SMALL = SyntheticConfig(users=120, items=90, ratings_per_user=40, seed=5)


@functools.cache
def small_synthetic():
    return generate(SMALL)


def need(*parts):
    """Returns a path below the shared folder; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}; set TFMETA_SHARED to the folder that has it")
    return str(path)


def hand_made():
    """Four users, five items, every kind of feature, missing values in each."""
    schema = Schema(
        label=LabelSchema(), user_id="person", item_id="film", user_id_dtype="int64", timestamp="time", title="name",
        user_features=(FeatureSchema("age", "numeric"), FeatureSchema("city", "categorical")),
        item_features=(FeatureSchema("year", "categorical", dtype="int64"),
                       FeatureSchema("cast", "multi_categorical", length=3),
                       FeatureSchema("plot", "text", length=4, hash_buckets=8),
                       FeatureSchema("vector", "dense_vector", length=2), FeatureSchema("price", "numeric")))
    users = pd.DataFrame({"person": [10, 2, 3, 4], "age": [20.0, 40.0, np.nan, 1000.0],
                          "city": ["Rome", "Oslo", "Rome", "Cold"]})
    items = pd.DataFrame({
        "film": ["a", "b", "c", "d", "e"], "name": ["A", "B", "C", "D", "E"], "year": [1999, 2000, 1999, -1, 1950],
        "cast": ["x|y", "x|z", "x|y", "", "cold"], "plot": ["one two", "", "three", "four", "cold plot"],
        "vector": ["1 2", "3 2", "", "5 2", "999 999"], "price": [1.0, 3.0, np.nan, 5.0, 1e6]})
    rows = [(10, "a", 5, 3), (10, "b", 3, 1), (2, "a", 4, 2), (2, "c", 2, 9), (3, "d", 1, 4), (3, "a", 3, 5),
            (4, "a", 1, 6), (4, "e", 1, 7), (10, "e", 1, 8)]
    interactions = pd.DataFrame(rows, columns=["person", "film", "rating", "time"])
    raw = RawData.from_frames(interactions, users=users, items=items, schema=schema)
    cold_user = raw.users["user_id"].to_numpy()[raw.interactions.user_row] == 4
    cold_item = raw.items["item_id"].to_numpy()[raw.interactions.item_row] == "e"
    return raw, ~cold_user & ~cold_item
