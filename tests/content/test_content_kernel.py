"""Similarities against values worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from tfmeta.content.content_kernel import ContentKernel
from tfmeta.data.feature import Feature

NAN = float("nan")
FEATURES = {
    "year": Feature("year", "categorical", "int64", vocabulary=(1,)),
    "city": Feature("city", "categorical", "string", vocabulary=("a",)),
    "cast": Feature("cast", "multi_categorical", "string", length=3, vocabulary=("a",)),
    "plot": Feature("plot", "text", "string", length=4, hash_buckets=8),
    "vector": Feature("vector", "dense_vector", "float32", length=2),
    "price": Feature("price", "numeric", "float32"),
}
MISSING = {"year": -1, "city": "", "cast": np.array([], object), "plot": "", "price": NAN,
           "vector": np.array([NAN, NAN], np.float32)}


def cells(*rows):
    """A column of lists or vectors."""
    column = np.empty(len(rows), object)
    column[:] = [np.asarray(row, object if row and isinstance(row[0], str) else None) for row in rows]
    return pd.Series(column)


def matrix(name, values):
    kernel = ContentKernel.fit(values, feature=FEATURES[name])
    encoded = kernel.encode(values)
    return kernel, encoded, kernel.between(encoded, encoded)


def rarity(count, of):
    return np.log((1 + of) / (1 + count)) + 1


def test_lists_are_compared_by_rarity():
    """Five lists: "x" is in three, "y" in two; repeats count once."""
    values = cells(["x", "y"], ["x", "x"], ["y"], ["x"], [])
    _, _, got = matrix("cast", values)
    x, y = rarity(3, 5) ** 2, rarity(2, 5) ** 2
    expected = np.array([[x + y, x, y, x, 0], [x, x, 0, x, 0], [y, 0, y, 0, 0], [x, x, 0, x, 0], [0] * 5])
    np.testing.assert_allclose(got, expected * 5 / np.trace(expected), rtol=1e-12)


@pytest.mark.parametrize("name, values", [("year", [3, 7, 3, 7, 3, -1]), ("city", ["c", "g", "c", "g", "c", ""])])
def test_categories_are_compared_by_rarity(name, values):
    _, _, got = matrix(name, pd.Series(values))
    weight = np.array([rarity(3, 6), rarity(2, 6)] * 2 + [rarity(3, 6), 0.0]) ** 2
    same = np.array([[a == b for b in values] for a in values])
    np.testing.assert_allclose(got, same * weight * 6 / weight.sum(), rtol=1e-12)


def test_texts_have_length_one_and_ignore_case_and_marks():
    values = pd.Series(["The Robot", "robot, THE!", "the sea", "sea", ""])
    _, _, got = matrix("plot", values)
    the, robot, sea = rarity(3, 5), rarity(2, 5), rarity(2, 5)
    cosine = the**2 / np.sqrt((the**2 + robot**2) * (the**2 + sea**2))
    np.testing.assert_allclose(got[0], [1, 1, cosine, 0, 0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(got[2, 3], sea / np.sqrt(the**2 + sea**2), rtol=1e-12)


def test_numbers_are_compared_by_a_bell():
    values = pd.Series(np.array([1.0, 2.0, 4.0, NAN], np.float32))
    _, _, got = matrix("price", values)
    width = 0.4 * np.std([1.0, 2.0, 4.0])
    np.testing.assert_allclose(got[0], [1, np.exp(-0.5 / width**2), np.exp(-4.5 / width**2), 0], rtol=1e-12)


def test_vectors_are_compared_by_angle():
    _, _, got = matrix("vector", cells([3.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [NAN, NAN]))
    np.testing.assert_allclose(got[0], [1, np.sqrt(0.5), -1, 0], rtol=1e-12)


@pytest.mark.parametrize("name", FEATURES)
def test_kernels_are_positive_semi_definite_and_about_one(name):
    rng = np.random.default_rng([1])
    words = np.array(["red", "green", "blue", "grey", "teal"])
    values = {"year": pd.Series(rng.integers(0, 6, 40)), "city": pd.Series(rng.choice(words, 40)),
              "cast": cells(*[rng.choice(words, 1 + i % 3).tolist() for i in range(40)]),
              "plot": pd.Series([" ".join(rng.choice(words, 4)) for _ in range(40)]),
              "vector": cells(*rng.normal(size=(40, 2)).tolist()), "price": pd.Series(rng.normal(size=40))}[name]
    column = values.astype(object)
    for row in range(0, 40, 10):
        column.iat[row] = MISSING[name]
    if name in ("year", "price"):
        column = column.astype(np.int64 if name == "year" else np.float32)
    kernel, encoded, got = matrix(name, column)
    assert np.linalg.eigvalsh(got).min() > -1e-9
    np.testing.assert_allclose(got, got.T, atol=1e-12)
    np.testing.assert_allclose(kernel.own(encoded), np.diag(got), rtol=1e-12, atol=1e-12)
    known = np.arange(40) % 10 != 0
    assert (got[~known] == 0).all() and (got[:, ~known] == 0).all()
    per_item = 40 if scipy.sparse.issparse(encoded) and name != "plot" else known.sum()
    np.testing.assert_allclose(np.trace(got), per_item, rtol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
def test_a_column_without_any_value_is_similar_to_nothing(name):
    values = pd.Series([MISSING[name]] * 3) if name in ("year", "city", "plot", "price") else cells(
        *[MISSING[name].tolist()] * 3)
    _, _, got = matrix(name, values)
    assert got.shape == (3, 3) and (got == 0).all()


@pytest.mark.parametrize("name, values, once, unseen", [
    ("cast", cells(["x", "y"], ["x"], ["x", "y", "z"]), cells(["x", "z"]), cells(["x", "new"])),
    ("city", pd.Series(["x", "x", "z"]), pd.Series(["z"]), pd.Series(["new"])),
    ("plot", pd.Series(["xx yy", "xx", "xx yy zz"]), pd.Series(["xx zz"]), pd.Series(["xx new"]))])
def test_an_unseen_value_is_as_long_as_that_of_one_item(name, values, once, unseen):
    """To one that is left out, its own values are as unseen as a new item's are."""
    kernel = ContentKernel.fit(values, feature=FEATURES[name])
    fitted = kernel.encode(values)
    known, new = kernel.encode(once), kernel.encode(unseen)
    np.testing.assert_allclose(kernel.own(new), kernel.own(known), rtol=1e-12)
    # To all but the third item, which has the value, they are equally similar.
    np.testing.assert_allclose(kernel.between(new, fitted)[:, :2], kernel.between(known, fitted)[:, :2], rtol=1e-12)
    assert kernel.between(new, fitted)[0, 2] < kernel.between(known, fitted)[0, 2]
