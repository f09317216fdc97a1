"""The declaration of raw data: defaults, ranges, messages, round trips."""

import dataclasses

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta import config
from tfmeta.data.csv_options import CsvOptions
from tfmeta.data.feature import KINDS, Feature
from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.schema import Schema
from tfmeta.errors import ConfigError


@pytest.mark.parametrize("unit, expected", [
    ("rating", (1.0, 5.0, 4.0)), ("click", (0.0, 1.0, 0.5)), ("weight", (0.0, 1e9, 1.0))])
def test_label_defaults_follow_the_unit(unit, expected):
    label = LabelSchema(unit=unit)
    assert (label.minimum, label.maximum, label.threshold) == expected
    assert label.name == unit
    assert label.to_label(mean=1.0, std=2.0).std == 2.0


@pytest.mark.parametrize("values, text", [
    ({"unit": "rating", "minimum": 5, "maximum": 1}, "label.minimum"),
    ({"unit": "rating", "threshold": 9}, "label.threshold"),
    ({"unit": "click", "maximum": 2}, "0 and 1 for unit click"),
    ({"unit": "weight", "minimum": -1}, "at least 0"),
    ({"unit": "rating", "implicit": True}, "label.implicit"),
    ({"unit": "stars"}, "rating, click, weight"),
    ({"maximum": float("nan")}, "finite"),
    ({"thresold": 3}, "Did you mean 'threshold'"),
])
def test_a_bad_label_is_told(values, text):
    with pytest.raises(ConfigError, match=text):
        config.parse(LabelSchema, values)


@pytest.mark.parametrize("values, text", [
    ({"name": "a b", "kind": "text"}, "a b"),
    ({"name": "a", "kind": "categorical", "length": 3}, "a.length"),
    ({"name": "a", "kind": "dense_vector"}, "number of dimensions"),
    ({"name": "a", "kind": "numeric", "dtype": "int64"}, "a.dtype"),
    ({"name": "a", "kind": "text", "separator": ","}, "a.separator"),
    ({"name": "a", "kind": "multi_categorical", "separator": ""}, "a.separator"),
    ({"name": "a", "kind": "text", "hash_buckets": 0}, "a.hash_buckets"),
    ({"name": "a", "kind": "txt"}, "Did you mean 'text'"),
])
def test_a_bad_feature_is_told(values, text):
    with pytest.raises(ConfigError, match=text):
        config.parse(FeatureSchema, values)


@pytest.mark.parametrize("values, text", [
    ({"max_bad_share": 1.5}, "max_bad_share"),
    ({"user_id": "x", "item_id": "x"}, "a column other than"),
    ({"timestamp": "rating"}, "label.name"),
    ({"item_features": [{"name": "a", "kind": "text"}] * 2}, "names that differ"),
    ({"user_features": [{"name": "partition", "kind": "text"}]}, "names other than"),
    ({"title": "t", "item_features": [{"name": "t", "kind": "numeric"}]}, "'title'"),
    ({"interactions": []}, "interactions"),
    ({"csv": {"encoding": "klingon"}}, "csv.encoding"),
    ({"csv": {"separator": ""}}, "csv.separator"),
    ({"csv": {"quote": ","}}, "csv.quote"),
    ({"csv": {"columns": ["a", "a"]}}, "csv.columns"),
    ({"item_featurs": []}, "Did you mean 'item_features'"),
])
def test_a_bad_schema_is_told(values, text):
    with pytest.raises(ConfigError, match=text):
        config.parse(Schema, values)


def test_defaults_by_kind_make_valid_features():
    for kind in KINDS:
        length = 3 if kind == "dense_vector" else None
        schema = FeatureSchema(name="f", kind=kind, length=length)
        vocabulary = ("a",) if kind.endswith("categorical") else None
        feature = Feature(name=schema.name, kind=schema.kind, dtype=schema.dtype, length=schema.length,
                          vocabulary=vocabulary, hash_buckets=schema.hash_buckets)
        if kind not in ("multi_categorical", "dense_vector"):
            np.testing.assert_equal(schema.missing, feature.missing)
    assert FeatureSchema("v", "dense_vector", length=2).missing.shape == (2,)
    assert FeatureSchema("m", "multi_categorical").missing == []


def test_yaml_round_trip(tmp_path):
    values = {"label": {"name": "stars", "maximum": 10, "threshold": 8}, "user_id": "u", "item_id": "i",
              "interactions": ["a.csv", "b-*.csv"], "items": "items.csv", "title": "name", "max_bad_share": 0.2,
              "item_features": [{"name": "tags", "kind": "multi_categorical", "separator": ";", "length": 4},
                                {"name": "v", "kind": "dense_vector", "length": 2, "column": "vec"}],
              "csv": {"separator": "\t", "quote": None, "encoding": "latin-1"}}
    path = tmp_path / "schema.yaml"
    path.write_text(yaml.safe_dump(values))
    schema = Schema.from_yaml(str(path))
    assert schema.files("interactions") == ("a.csv", "b-*.csv")
    assert schema.files("items") == ("items.csv",) and schema.files("users") == ()
    assert schema.item_features[1].column == "vec"
    assert config.parse(Schema, yaml.safe_load(yaml.safe_dump(config.to_dict(schema)))) == schema


def test_a_bad_file_is_named(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text("labl: {}")
    with pytest.raises(ConfigError, match=r"schema\.yaml.*Did you mean 'label'"):
        Schema.from_yaml(str(path))


plain = st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5),
                     lambda inner: (st.lists(inner, max_size=3)
                                    | st.dictionaries(st.text(max_size=5), inner, max_size=3)),
                     max_leaves=6)


@pytest.mark.parametrize("cls", [Schema, LabelSchema, FeatureSchema, CsvOptions])
@settings(deadline=None)
@given(data=st.data())
def test_parsing_raises_nothing_but_config_errors(cls, data):
    names = [f.name for f in dataclasses.fields(cls)]
    known = st.sampled_from(["categorical", "text", "dense_vector", "rating", "click", "int64", "utf-8", "a"])
    values = data.draw(st.dictionaries(st.sampled_from(names), plain | known, max_size=6))
    try:
        parsed = config.parse(cls, values)
    except ConfigError:
        return
    assert config.parse(cls, config.to_dict(parsed)) == parsed
