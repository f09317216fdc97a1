import dataclasses
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta import config
from tfmeta.data.split_config import SplitConfig
from tfmeta.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: int = 5

    def __post_init__(self):
        config.require(self.steps >= 0, "steps", "at least 0", self.steps)


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    mode: Literal["fast", "slow"] = "fast"
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] | None = None
    flag: bool = False
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    path: str | tuple[str, ...] | None = None
    layers: tuple[Inner, ...] = ()


def test_a_whole_document():
    values = {"name": "x", "inner": {"rate": "1e-3"}, "sizes": [3], "pair": [1, 2], "flag": True,
              "extra": {"a": [1]}, "path": ["p", "q"], "layers": [{"steps": 1}, {}]}
    parsed = config.parse(Outer, values)
    assert parsed == Outer("x", Inner(0.001), "fast", (3,), (1, 2.0), True, {"a": [1]}, ("p", "q"),
                           (Inner(steps=1), Inner()))
    assert isinstance(parsed.pair[1], float)
    assert config.parse(Outer, config.to_dict(parsed)) == parsed


@pytest.mark.parametrize(("values", "message"), [
    ({"nam": "x"}, "Unknown key 'nam'. Did you mean 'name'"),
    ({}, "Required key 'name' is missing"),
    ({"name": 3}, "'name' requires str, received 3"),
    ({"name": "x", "inner": {"ratte": 1}}, "Unknown key 'inner.ratte'. Did you mean 'rate'"),
    ({"name": "x", "inner": {"steps": -1}}, "In 'inner': 'steps' requires at least 0, received -1"),
    ({"name": "x", "inner": {"steps": True}}, "'inner.steps' requires int, received True"),
    ({"name": "x", "inner": {"steps": 1.5}}, "'inner.steps' requires int"),
    ({"name": "x", "inner": {"rate": "fast"}}, "'inner.rate' requires float"),
    ({"name": "x", "inner": [1]}, "'inner' requires a mapping"),
    ({"name": "x", "mode": "slwo"}, "one of fast, slow, received 'slwo'. Did you mean 'slow'"),
    ({"name": "x", "mode": ["fast"]}, "one of fast, slow"),
    ({"name": "x", "sizes": [1, "2"]}, r"'sizes\[1\]' requires int"),
    ({"name": "x", "sizes": 3}, "'sizes' requires a list"),
    ({"name": "x", "pair": [1]}, "'pair' requires 2 values"),
    ({"name": "x", "flag": 1}, "'flag' requires bool"),
    ({"name": "x", "extra": []}, "'extra' requires a mapping"),
    ({"name": "x", "layers": [{"steps": 1}, {"stps": 1}]}, r"Unknown key 'layers\[1\].stps'"),
    ([1], "requires a mapping"),
])
def test_mistakes_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(Outer, values)


_json = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                     lambda inner: (st.lists(inner, max_size=3)
                                    | st.dictionaries(st.text(max_size=8), inner, max_size=3)),
                     max_leaves=8)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(Outer)]) | st.text(max_size=5), _json,
                       max_size=5),
       st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(SplitConfig)]), _json, max_size=4))
def test_anything_is_parsed_or_refused(values, split):
    for cls, document in ((Outer, values), (SplitConfig, split)):
        try:
            parsed = config.parse(cls, document)
        except ConfigError as error:
            assert str(error)
        else:
            assert config.parse(cls, config.to_dict(parsed)) == parsed or "nan" in repr(parsed)


def test_overrides():
    base = {"a": {"b": 1}, "c": 2}
    changed = config.apply_overrides(base, ["a.b=[1, 2]", "d.e=null", "c=1e-3", "f=text=more"])
    assert changed == {"a": {"b": [1, 2]}, "c": "1e-3", "d": {"e": None}, "f": "text=more"}
    assert base == {"a": {"b": 1}, "c": 2}
    for wrong, message in (("a.b", "requires the form"), ("=1", "requires the form"), ("c.x=1", "not a mapping"),
                           ("a=[", "not a YAML value")):
        with pytest.raises(ConfigError, match=message):
            config.apply_overrides(base, [wrong])


def test_yaml_files(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigError, match="does not exist"):
        config.load_yaml(str(path))
    path.write_text("a: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        config.load_yaml(str(path))
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="mapping at the top"):
        config.load_yaml(str(path))
    path.write_text("a: {b: 1}\n")
    assert config.load_yaml(str(path)) == {"a": {"b": 1}}
