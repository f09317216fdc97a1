import dataclasses
import json

import numpy as np
import pytest
from prepare_helpers import hand_made, small_synthetic

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.fit_spec import fit_spec
from tfmeta.data.label import Label
from tfmeta.data.vocabulary_config import VocabularyConfig
from tfmeta.errors import ConfigError


def by_name(spec):
    return {f.name: f for f in (*spec.user_features, *spec.item_features)}


def test_statistics_and_vocabularies_by_hand():
    raw, train = hand_made()
    spec = fit_spec(raw, train, vocabulary=VocabularyConfig(multi_categorical_min_count=1))
    features = by_name(spec)
    # Users 10, 2 and 3 are trained on, user 4 is not; items a, b, c and d are, e is not.
    assert spec.user_id.name == "person" and spec.user_id.vocabulary == (2, 3, 10)
    assert spec.item_id.name == "film" and spec.item_id.vocabulary == ("a", "b", "c", "d")
    assert features["city"].vocabulary == ("Rome", "Oslo")
    assert features["year"].vocabulary == (1999, 2000)
    assert features["cast"].vocabulary == ("x", "y", "z")
    assert features["age"].mean == (30.0,) and features["age"].std == (10.0,)
    assert features["price"].mean == (3.0,)
    np.testing.assert_allclose(features["price"].std, [np.std([1, 3, 5])], rtol=1e-12)
    np.testing.assert_allclose(features["vector"].mean, [3.0, 2.0], rtol=1e-12)
    np.testing.assert_allclose(features["vector"].std, [np.std([1, 3, 5]), 1.0], rtol=1e-12)
    assert features["plot"].vocabulary is None and features["plot"].hash_buckets == 8
    labels = [5, 3, 4, 2, 1, 3]
    np.testing.assert_allclose([spec.label.mean, spec.label.std], [np.mean(labels), np.std(labels)], rtol=1e-12)
    assert spec.title == "name" and spec.label.threshold == 4.0


def test_the_order_is_frequency_then_value():
    raw, _ = small_synthetic()
    train = np.arange(len(raw.interactions)) % 2 == 0
    spec = fit_spec(raw, train)
    count = np.bincount(raw.interactions.item_row[train], minlength=len(raw.items))
    keys = sorted((-count[i], raw.items["item_id"].iloc[i]) for i in np.flatnonzero(count))
    assert spec.item_id.vocabulary == tuple(value for _, value in keys)
    rows = raw.items.iloc[np.flatnonzero(count)]
    genre = rows["genre"].value_counts()
    assert by_name(spec)["genre"].vocabulary == tuple(
        v for _, v in sorted((-n, v) for v, n in genre.items()))


def test_rare_values_share_the_buckets():
    raw, train = hand_made()
    assert by_name(fit_spec(raw, train))["cast"].vocabulary == ("x", "y")
    one = fit_spec(raw, train, vocabulary=VocabularyConfig(min_count=2, features={"cast": 3}))
    assert by_name(one)["cast"].vocabulary == ("x",) and by_name(one)["city"].vocabulary == ("Rome",)
    # Ids keep every training row's id, whatever the least counts are.
    assert len(one.item_id.vocabulary) == 4
    with pytest.raises(ConfigError, match=r"No feature with a vocabulary is called 'casts'.*Did you mean 'cast'"):
        fit_spec(raw, train, vocabulary=VocabularyConfig(features={"casts": 2}))
    with pytest.raises(ConfigError, match="at least 1, received 0"):
        VocabularyConfig(min_count=0)


def test_rows_outside_training_do_not_matter():
    raw, train = hand_made()
    spec = fit_spec(raw, train)
    users, items = raw.users.copy(), raw.items.copy()
    users.loc[users["user_id"] == 4, ["age", "city"]] = [7.0, "Elsewhere"]
    items.loc[items["item_id"] == "e", ["year", "price"]] = [3000, -1.0]
    label = np.where(train, raw.interactions.label, 5 - raw.interactions.label)
    other = dataclasses.replace(raw, users=users, items=items,
                                interactions=dataclasses.replace(raw.interactions, label=label))
    assert fit_spec(other, train).to_json() == spec.to_json()
    assert "Cold" not in spec.to_json() and "cold" not in spec.to_json()


def test_large_means_and_constants_are_standardised_safely():
    raw, train = hand_made()
    items = raw.items.copy()
    items["price"] = np.float32(1e6) + np.arange(5, dtype=np.float32)
    price = by_name(fit_spec(dataclasses.replace(raw, items=items), train))["price"]
    np.testing.assert_allclose(price.std, [np.std([0, 1, 2, 3])], rtol=1e-9)
    for value, mean in ((7.0, 7.0), (np.nan, 0.0)):
        items["price"] = np.full(5, value, np.float32)
        price = by_name(fit_spec(dataclasses.replace(raw, items=items), train))["price"]
        assert price.mean == (mean,) and price.std == (1.0,)


def test_json_round_trip_is_exact_and_canonical():
    raw, train = hand_made()
    spec = fit_spec(raw, train)
    again = FeatureSpec.from_json(spec.to_json())
    assert again == spec and again.to_json() == spec.to_json() and again.fingerprint() == spec.fingerprint()
    assert isinstance(again.user_id.vocabulary[0], int) and isinstance(again.item_id.vocabulary[0], str)
    values = json.loads(spec.to_json())
    values["label"]["treshold"] = 4
    with pytest.raises(ConfigError, match=r"feature_spec.label.treshold.*Did you mean 'threshold'"):
        FeatureSpec.from_json(json.dumps(values))
    values = json.loads(spec.to_json()) | {"format_version": 99}
    with pytest.raises(ConfigError, match="format_version"):
        FeatureSpec.from_json(json.dumps(values))
    with pytest.raises(ConfigError, match="requires JSON"):
        FeatureSpec.from_json("{")


def test_wrong_features_are_refused():
    with pytest.raises(ConfigError, match="dtype"):
        Feature(name="x", kind="numeric", dtype="string")
    with pytest.raises(ConfigError, match="length"):
        Feature(name="x", kind="text", dtype="string")
    one = Feature(name="x", kind="numeric", dtype="float32", mean=(0.0,), std=(1.0,))
    ids = {n: Feature(name=n, kind="categorical", dtype="string", vocabulary=()) for n in ("user_id", "item_id")}
    with pytest.raises(ConfigError, match=r"repeated: \['x'\]"):
        FeatureSpec(label=Label(name="rating"), user_features=(one, one), **ids)
    assert ids["user_id"].num_ids == 2 and one.num_ids == 0 and one.raw_shape == ()
