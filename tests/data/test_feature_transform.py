"""Raw features in the graph, for any value a client may send."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.data.feature import Feature
from tfmeta.data.feature_transform import FeatureTransform
from tfmeta.data.raw_columns import missing_row, raw_columns
from tfmeta.errors import ConfigError, DataError

FEATURES = (
    Feature("genre", "categorical", "string", vocabulary=("drama", "crime"), hash_buckets=3),
    Feature("zone", "categorical", "int64", vocabulary=(7, 11), hash_buckets=2),
    Feature("tags", "multi_categorical", "string", length=3, vocabulary=("x", "y")),
    Feature("price", "numeric", "float32", mean=(10.0,), std=(2.0,)),
    Feature("plot", "text", "string", length=4, hash_buckets=50),
    Feature("vector", "dense_vector", "float32", length=2, mean=(1.0, 0.0), std=(1.0, 0.5)),
)


def transform(**raw):
    features = tuple(f for f in FEATURES if f.name in raw)
    return {k: v.numpy() for k, v in FeatureTransform(features)(raw).items()}


def test_known_unknown_and_missing_categories():
    result = transform(genre=["drama", "crime", "", "western"], zone=np.array([7, 11, -1, 8], np.int64))
    assert result["genre"][:3].tolist() == [4, 5, 0] and 1 <= result["genre"][3] <= 3
    assert result["zone"][:3].tolist() == [3, 4, 0] and 1 <= result["zone"][3] <= 2


def test_numbers_are_standardised_cleaned_and_clipped():
    result = transform(price=np.float32([10, 14, np.nan, np.inf, 1e38, -1e38]),
                       vector=np.float32([[1, 0.5], [np.nan, -1]]))
    np.testing.assert_allclose(result["price"], [0, 2, 0, 0, 10, -10])
    np.testing.assert_allclose(result["vector"], [[0, 1], [0, -2]])


def test_text_is_split_lowered_bounded_and_padded():
    result = transform(plot=["Big-Fish, BIG fish!", "one two three four five", "", "  ,; "])["plot"]
    assert result.shape == (4, 4)
    assert result[0, 0] == result[0, 2] and result[0, 1] == result[0, 3] and (result[0] > 0).all()
    assert (result[1] > 0).all() and (result[2:] == 0).all()


def test_leading_axes_are_kept():
    result = transform(plot=tf.constant([["a b", "c"], ["d", ""]]), tags=tf.constant([[["x", "", ""], ["y", "z", ""]]]))
    assert result["plot"].shape == (2, 2, 4) and result["tags"].shape == (1, 2, 3)
    assert result["tags"][0, 0].tolist() == [2, 0, 0] and result["tags"][0, 1].tolist() == [3, 1, 0]


def test_non_finite_says_where():
    transformer = FeatureTransform(FEATURES[3:6:2])
    found = transformer.non_finite({"price": [[1.0, np.nan]], "vector": [[[1.0, 2.0], [1.0, 2.0]]]}, leading_rank=2)
    assert found.numpy().tolist() == [[False, True]]
    assert FeatureTransform(FEATURES[:1]).non_finite({"genre": ["a"]}, leading_rank=1) is None


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.floats(width=32), st.integers(-2**63, 2**63 - 1))
def test_no_value_fails_or_leaves_the_tables(texts, number, integer):
    count = len(texts)
    result = transform(genre=texts, plot=texts, tags=[[t] * 3 for t in texts], price=np.full(count, number, np.float32),
                       zone=np.full(count, integer), vector=np.full((count, 2), number, np.float32))
    for feature in FEATURES:
        value = result[feature.name]
        if feature.num_ids:
            assert value.min() >= 0 and value.max() < feature.num_ids
        else:
            assert np.isfinite(value).all() and np.abs(value).max() <= 10


def test_names_are_checked():
    transformer = FeatureTransform(FEATURES[:2])
    with pytest.raises(ConfigError, match="'zone' is required"):
        transformer({"genre": ["a"]})
    with pytest.raises(ConfigError, match=r"Unknown feature 'genres'\. Did you mean 'genre'"):
        transformer({"genres": ["a"], "genre": ["a"], "zone": np.array([1], np.int64)})


def test_raw_columns_pad_and_fill():
    frame = pd.DataFrame({"genre": ["drama", None], "zone": pd.array([7, None], dtype="Int64"), "price": [1.5, None],
                          "tags": [["x", "y", "x", "y"], None], "vector": [None, [1.0, 2.0]], "plot": ["a", "b"]})
    raw = raw_columns(frame, FEATURES)
    assert raw["genre"].tolist() == ["drama", ""] and raw["zone"].tolist() == [7, -1]
    assert raw["tags"].tolist() == [["x", "y", "x"], ["", "", ""]]
    assert np.isnan(raw["price"][1]) and np.isnan(raw["vector"][0]).all()
    missing = FeatureTransform(FEATURES)(missing_row(FEATURES))
    assert all((v.numpy() == 0).all() for v in missing.values())


def test_raw_columns_name_what_is_wrong():
    with pytest.raises(DataError, match="'genre' requires column 'genre'"):
        raw_columns(pd.DataFrame({"zone": [1]}), FEATURES[:1])
    with pytest.raises(DataError, match="vectors of 2 numbers, received 3 in row 0"):
        raw_columns(pd.DataFrame({"vector": [[1.0, 2.0, 3.0]]}), FEATURES[5:])
