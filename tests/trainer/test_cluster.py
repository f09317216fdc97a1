"""TF_CONFIG is read strictly, and what a cluster and a configuration have to agree on."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfmeta.errors import ConfigError, RunError, TfmetaError
from trainer.config import load_config
from trainer.distribution.agreement import require_agreement, require_divisible
from trainer.distribution.cluster import Cluster
from trainer.distribution.open_distribution import open_distribution

VERTEX = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "environment": "cloud"}


def read(values) -> Cluster:
    return Cluster.read({"TF_CONFIG": values if isinstance(values, str) else json.dumps(values)})


def test_workers_are_numbered_from_the_chief():
    chief = read(VERTEX | {"task": {"type": "chief", "index": 0}})
    last = read(VERTEX | {"task": {"type": "worker", "index": "1", "trial": "x"}})
    assert (chief.num_workers, chief.number, chief.is_chief) == (3, 0, True)
    assert (last.num_workers, last.number, last.is_chief) == (3, 2, False)
    assert last.name(2) == "worker 2 (c:1)" and last.jobs() == VERTEX["cluster"]
    equal = {"cluster": {"worker": ["a:1", "b:1"]}}
    assert read(equal | {"task": {"type": "worker", "index": 0}}).is_chief
    assert not read(equal | {"task": {"type": "worker", "index": 1}}).is_chief
    old = read({"cluster": {"master": ["a:1"], "worker": ["b:1"]}, "task": {"type": "master", "index": 0}})
    assert old.is_chief and old.num_workers == 2


@pytest.mark.parametrize("alone", ["", "{}", '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
                                   '{"cluster": {"chief": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
                                   '{"cluster": {"worker": ["a:1"], "ps": []}}'])
def test_one_process(alone):
    cluster = Cluster.read({"TF_CONFIG": alone})
    assert cluster.num_workers == 1 and cluster.is_chief
    assert open_distribution("none", cluster=cluster).num_replicas == 1
    with pytest.raises(ConfigError, match="requires TF_CONFIG to name several"):
        open_distribution("multi_worker", cluster=cluster)


@pytest.mark.parametrize(("values", "message"), [
    ("{", "requires JSON such as"),
    ("[]", "requires JSON such as"),
    ('{"task": {"index": "x"}}', "requires JSON such as"),
    ({"cluster": {"worker": "a:1"}}, "requires JSON such as"),
    ({"cluster": {"worker": [1]}}, "requires JSON such as"),
    ({"cluster": {"worker": ["a:1", "b:1"]}}, "which of the 2 workers"),
    ({"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}, "different address"),
    ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}, r"worker 0 to 1\), received"),
    ({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}, "received chief 0"),
    ({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}, "received ps"),
    ({"cluster": {"worker": ["a:1"], "evaluator": ["b:1"]}, "task": {"type": "evaluator", "index": 0}}, "evaluators"),
    ({"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}, "at most one chief"),
    ({"task": {"type": "evaluator", "index": 0}}, "received evaluator"),
    ({"task": {"type": "worker", "index": 1}}, "received worker 1"),
])
def test_what_cannot_be_read_is_one_clear_line(values, message):
    with pytest.raises(RunError, match=message) as error:
        read(values)
    assert "TF_CONFIG" in str(error.value) and "\n" not in str(error.value)


JSON = st.recursive(st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.floats(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["cluster", "task", "worker", "chief", "ps", "type", "index", ""]), inner,
                        max_size=4), max_leaves=12)


@given(values=JSON | st.text(max_size=10))
def test_anything_gives_a_cluster_or_a_user_error(values):
    try:
        cluster = read(values)
    except TfmetaError:
        return
    assert 0 <= cluster.number < cluster.num_workers


def test_single_process_settings_refuse_a_cluster():
    cluster = read(VERTEX | {"task": {"type": "chief", "index": 0}})
    for name in ("none", "mirrored"):
        with pytest.raises(ConfigError, match="names 3 workers"):
            open_distribution(name, cluster=cluster)


@dataclasses.dataclass
class Told:
    """A distribution whose other worker said something."""

    change: object
    cluster: Cluster = dataclasses.field(
        default_factory=lambda: read({"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}))
    num_replicas: int = 4
    num_workers: int = 2

    def gather_texts(self, text):
        values = json.loads(text)
        self.change(values)
        return [text, json.dumps(values)]


def test_workers_that_differ_are_named_with_what_differs():
    from tfmeta.data.feature import Feature
    from tfmeta.data.feature_spec import FeatureSpec
    from tfmeta.data.label import Label

    name = Feature(name="a", kind="categorical", dtype="string", vocabulary=("x",))
    spec = FeatureSpec(label=Label(name="r", unit="rating", minimum=1, maximum=5, threshold=4), user_id=name,
                       item_id=dataclasses.replace(name, name="b"), user_features=(), item_features=())
    given_ = {"config": load_config({}), "feature_spec": spec, "training_fingerprint": "f" * 64}
    require_agreement(Told(lambda values: None), **given_)
    with pytest.raises(RunError, match=r"worker 1 \(b:1\) differ in optimizer.learning_rate: 0.001 and 0.5"):
        require_agreement(Told(lambda values: values.update({"optimizer.learning_rate": 0.5})), **given_)
    with pytest.raises(RunError, match="training data: ffffffffffff and other"):
        require_agreement(Told(lambda values: values.update({"training data": "other"})), **given_)
    with pytest.raises(RunError, match="seed: 0 and absent"):
        require_agreement(Told(lambda values: values.pop("seed")), **given_)
    # On what a worker trains decides nothing.
    assert "distribution" not in Told(lambda values: None).gather_texts('{"a": 1}')[1]


def test_a_meta_batch_that_replicas_do_not_divide_is_refused():
    require_divisible(Told(None), 8)
    with pytest.raises(RunError, match=r"number of replicas \(4 on 2 workers\), received 6.*take 4 or 8\."):
        require_divisible(Told(None), 6)
    with pytest.raises(RunError, match="take 4, or use one device"):
        require_divisible(Told(None, num_workers=1), 2)
