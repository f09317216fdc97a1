"""What `make bench-smoke` is held to: the frozen generator, and learners that do not learn or do not adapt."""

import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import bench_smoke
from tfmeta.data.prepare_dataset import default_split, prepare_dataset
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from trainer.benchmarking.learner_system import LearnerSystem
from trainer.benchmarking.system import Fitted
from trainer.benchmarking.systems import learner_names


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("smoke") / "prepared")
    config = SyntheticConfig(users=150, items=80, ratings_per_user=30.0, rounded=True)
    prepare_dataset(dataset="synthetic", synthetic=config,
                    out=path, split=default_split("synthetic").without_validation())
    return path


def test_the_generator_draws_what_was_frozen():
    assert bench_smoke.generator_hash() == bench_smoke.FROZEN


def test_every_learner_takes_part_and_the_two_are_held_to_significance():
    from tfmeta.models.recommender import LEARNERS

    names = learner_names("synthetic")
    assert {*LEARNERS, "first_order_maml"} <= set(names)
    assert set(bench_smoke.SIGNIFICANT) == {"ridge", "first_order_maml"} <= set(names)


@pytest.mark.parametrize(("name", "loss", "gain", "failures"), [
    ("ridge", (1.0, 0.5), 0.5, []),
    ("ridge", (1.0, 1.1), 0.5, ["its loss rose from 1.0000 to 1.1000"]),
    ("ridge", (1.0, 0.5), 0.0, ["is not below unadapted", "the gain's p-value"]),
    ("maml", (1.0, 0.5), -0.5, ["is not below unadapted"]),
    ("joint", (1.0, 0.5), 0.0, [])])
def test_what_does_not_learn_or_adapt_is_named(data, monkeypatch, tmp_path, name, loss, gain, failures):
    def score_both(tasks):
        """Predictions 1 away from each label, and moved towards it."""
        label = np.nan_to_num(tasks.query_label, nan=3.0).astype(np.float64)
        away = np.where(label > 3, -1.0, 1.0)
        return label + (1 - gain) * away, label + away

    # These are of the process, which is the benchmark's own there.
    monkeypatch.setattr("tfmeta.quiet.quiet_tensorflow", lambda: None)
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", lambda number: None)
    monkeypatch.setattr(LearnerSystem, "check", lambda self, prepared: None)
    monkeypatch.setattr(LearnerSystem, "fit", lambda self, values, **_: Fitted(
        types.SimpleNamespace(score_both=score_both), seconds=0.0, loss=loss))
    found = bench_smoke.check_learner(name, data, str(tmp_path))
    assert len(found["failed"]) == len(failures), found["failed"]
    for words, text in zip(failures, found["failed"], strict=True):
        assert words in text
