import pytest

from tfmeta.data.feature import Feature
from tfmeta.errors import ConfigError
from tfmeta.serving.input_names import input_name, input_names


def feature(name):
    return Feature(name, "categorical", "string")


def test_names():
    assert input_name("user", "age") == "user_age"
    assert input_name("query", "release-year (US)") == "query_release_year__US_"
    assert input_names("support", [feature("a b"), feature("c")]) == {"a b": "support_a_b", "c": "support_c"}


@pytest.mark.parametrize(("prefix", "names", "message"), [
    ("user", ["zip code", "zip-code"], "feature 'zip code'"), ("query", ["label"], "the support's labels"),
    ("support", ["length"], "the support's length")])
def test_collisions(prefix, names, message):
    with pytest.raises(ConfigError, match=message):
        input_names(prefix, [feature(n) for n in names])


def test_users_may_have_a_label():
    assert input_names("user", [feature("label")]) == {"label": "user_label"}
