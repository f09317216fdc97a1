"""The two-tower reference: learns, repeats itself, sees no test labels, and leaves Keras 3 alone."""

import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tiny_data

from tfmeta.baselines import build_baseline
from tfmeta.data.interactions import Interactions
from tfmeta.errors import ConfigError

pytest.importorskip("tf_keras", reason="needs the extra tfrs")
SMALL = {"vector_dim": 4, "embedding_dim": 3, "units": 8, "batch_rows": 40, "support": 6}
ROOT = pathlib.Path(__file__).resolve().parents[2]


def train_error(model, prepared):
    """Mean absolute error on the training interactions, without a support."""
    train = prepared.train
    tasks = tiny_data.make_tasks(np.random.default_rng(0), count=len(train), query=1).truncate(0)
    score = model.score(dataclasses.replace(tasks, user_row=train.user_row, query_item=train.item_row[:, None]))
    return np.abs(score[:, 0] - train.label).mean()


@pytest.fixture(scope="module")
def prepared():
    return tiny_data.make_prepared()


@pytest.fixture(scope="module")
def fitted(prepared):
    model = build_baseline("two_tower_tfrs", epochs=120, learning_rate=0.01, retrieval_weight=0.05, **SMALL)
    return model.fit(prepared)


def test_ratings_are_learned_with_ranking_and_retrieval(prepared, fitted):
    constant = np.abs(prepared.train.label - prepared.train.label.mean()).mean()
    assert train_error(fitted, prepared) < 0.8 * constant
    # Cold items are told apart by their genre.
    tasks = tiny_data.make_tasks(np.random.default_rng(1)).truncate(0)
    cold = np.arange(tiny_data.WARM, tiny_data.ITEMS, dtype=np.int32)
    score = fitted.score(dataclasses.replace(tasks, query_item=np.tile(cold, (len(tasks), 1)))).mean(axis=0)
    genre = cold % 3
    assert score[genre == 2].min() > score[genre == 1].max() > score[genre == 0].max()


def test_a_users_level_follows_from_the_support(prepared, fitted):
    tasks = tiny_data.make_tasks(np.random.default_rng(2), low_support=5)
    high, low = (fitted.score(dataclasses.replace(tasks, support_label=np.where(
        tasks.support_item >= 0, value, np.nan).astype(np.float32))).mean(axis=1) for value in (5, 1))
    assert (high > low).mean() > 0.9


def test_the_same_seed_gives_the_same_model(prepared):
    tasks = tiny_data.make_tasks(np.random.default_rng(3), items=tiny_data.ITEMS)
    first, again, other = (build_baseline("two_tower_tfrs", epochs=3, seed=seed, **SMALL).fit(prepared).score(tasks)
                           for seed in (0, 0, 1))
    np.testing.assert_allclose(first, again, rtol=1e-6)
    assert np.abs(first - other).max() > 1e-3


def test_test_tasks_are_never_read(prepared):
    """Fitting asks for no tasks, and scores do not depend on the query's labels."""
    def refuse(part):
        raise AssertionError(part)

    blind = tiny_data.make_prepared()
    blind.tasks = refuse
    model = build_baseline("two_tower_tfrs", epochs=1, **SMALL).fit(blind)
    tasks = tiny_data.make_tasks(np.random.default_rng(4))
    other = dataclasses.replace(tasks, query_label=6 - tasks.query_label)
    np.testing.assert_array_equal(model.score(tasks), model.score(other))


@pytest.mark.parametrize("unit", ["click", "weight"])
def test_implicit_feedback_is_retrieved(unit):
    """Users like one of two kinds of items; a new user's first positives tell which."""
    prepared = tiny_data.make_prepared(unit="click")
    spec = dataclasses.replace(prepared.feature_spec, label=dataclasses.replace(prepared.feature_spec.label, unit=unit))
    rng = np.random.default_rng(5)
    user, item = np.nonzero((rng.random((tiny_data.USERS, tiny_data.WARM)) < 0.8)
                            & (np.arange(tiny_data.USERS)[:, None] % 2 == np.arange(tiny_data.WARM) % 2))
    prepared.feature_spec = spec
    prepared.train = Interactions(user.astype(np.int32), item.astype(np.int32), np.ones(len(user), np.float32),
                                  np.zeros(len(user), np.int64))
    model = build_baseline("two_tower_tfrs", epochs=40, learning_rate=0.02, damping=1.0, **SMALL).fit(prepared)
    assert not model.label_unit
    tasks = tiny_data.make_tasks(np.random.default_rng(6), count=2).truncate(2)
    tasks = dataclasses.replace(
        tasks, support_item=np.array([[0, 2], [1, 3]], np.int32), support_label=np.ones((2, 2), np.float32),
        support_length=np.array([2, 2], np.int32), query_item=np.tile(np.arange(4, 12, dtype=np.int32), (2, 1)))
    score = model.score(tasks)
    even = np.arange(4, 12) % 2 == 0
    assert score[0, even].min() > score[0, ~even].max()
    assert score[1, ~even].min() > score[1, even].max()
    # The whole catalogue, for which another path is taken.
    everything = dataclasses.replace(tasks, query_item=np.tile(np.arange(-1, tiny_data.ITEMS, dtype=np.int32), (2, 1)))
    np.testing.assert_allclose(model.score(everything)[:, 5:13], score, rtol=1e-9)


def test_keras_three_stays_keras_three():
    code = ("import os\nfrom tfmeta.baselines.tfrs_bridge import import_tfrs\ntfrs = import_tfrs()\nimport keras\n"
            "assert keras.__version__.startswith('3.') and 'TF_USE_LEGACY_KERAS' not in os.environ\n"
            "assert import_tfrs() is tfrs\nprint(tfrs.tasks.Retrieval.__name__)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "Retrieval", done.stderr[-2000:]


def test_a_process_that_has_used_keras_three_is_told_what_to_do():
    code = ("import tensorflow as tf\ntf.keras.layers\nfrom tfmeta.errors import ConfigError\n"
            "from tfmeta.baselines.tfrs_bridge import import_tfrs\n"
            "try:\n    import_tfrs()\nexcept ConfigError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "TF_USE_LEGACY_KERAS=1" in done.stdout, done.stderr[-2000:]


def test_an_absent_package_is_named(prepared, monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow_recommenders", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'tfmeta\[tfrs\]'"):
        build_baseline("two_tower_tfrs").fit(prepared)


def test_mistakes_are_named(prepared):
    with pytest.raises(ConfigError, match="'epochs' of at least 1"):
        build_baseline("two_tower_tfrs", epochs=0).fit(prepared)
