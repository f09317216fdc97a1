"""What a refresh is made of: specification, tasks, decisions, steps."""

import json

import numpy as np
import pytest

from tfmeta.data.extend_spec import extend_spec
from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_sampler_config import TaskSamplerConfig
from tfmeta.errors import ConfigError, DataError
from trainer.feedback.refresh_config import RefreshConfig
from trainer.feedback.refresh_decision import gain, is_better, is_needed
from trainer.feedback.refresh_sampler import RefreshSampler, active_rows
from trainer.feedback.refresh_steps import RefreshSteps

CONFIG = RefreshConfig()
LABEL = Label(name="rating", mean=3.0, std=1.0)


def spec(users=("u1",), items=("i1", "i2"), genres=("a",), **changes):
    def categorical(name, vocabulary):
        return Feature(name=name, kind="categorical", dtype="string", vocabulary=tuple(vocabulary))

    return FeatureSpec(**{
        "label": LABEL, "user_id": categorical("user", users), "item_id": categorical("movie", items),
        "user_features": (Feature(name="age", kind="numeric", dtype="float32", mean=(30.0,), std=(10.0,)),),
        "item_features": (categorical("genre", genres),), **changes})


def test_known_values_keep_their_numbers():
    now = spec(users=("u2", "u1"), items=("i3", "i1"), genres=("b", "a", "c"), label=Label(name="rating", mean=9.0),
               user_features=(Feature(name="age", kind="numeric", dtype="float32", mean=(99.0,), std=(1.0,)),))
    found = extend_spec(spec(), now)
    assert found.user_id.vocabulary == ("u1", "u2")
    assert found.item_id.vocabulary == ("i1", "i2", "i3")
    assert found.item_features[0].vocabulary == ("a", "b", "c")
    assert found.label == LABEL
    assert found.user_features == spec().user_features
    assert extend_spec(spec(), spec()) == spec()


@pytest.mark.parametrize("changes,words", [
    ({"label": Label(name="rating", unit="click", minimum=0, maximum=1, threshold=0.5)}, "labels of unit rating"),
    ({"task_side": "item"}, "task_side 'user', received 'item'"),
    ({"user_features": ()}, "user features .age., received none"),
    ({"item_features": (Feature(name="genre", kind="text", dtype="string", length=3),)}, "'genre' requires kind"),
])
def test_other_data_are_refused(changes, words):
    with pytest.raises(DataError, match=words):
        extend_spec(spec(), spec(**changes))


def interactions(users=40, since=1000, new=15):
    """Users of 8 to 11 rows each; the last `new` of them have their last row in the window."""
    count = 8 + np.arange(users) % 4
    user = np.repeat(np.arange(users), count).astype(np.int32)
    last = np.append(user[1:] != user[:-1], True)
    time = np.where(last & (user >= users - new), since, since - 1)
    rng = np.random.default_rng(0)
    return Interactions(user_row=user, item_row=rng.integers(0, 30, len(user)).astype(np.int32),
                        label=rng.integers(1, 6, len(user)).astype(np.float32), time=time.astype(np.int64))


def sampler(rows, **options):
    config = TaskSamplerConfig(query_size=3, min_interactions=5, meta_batch_size=10)
    options = {"since": 1000, "replay_share": 0.3, "seed": 4, **options}
    return RefreshSampler(rows, config=config, label=LABEL, **options)


def test_every_meta_batch_has_its_share_of_old_tasks():
    found = sampler(interactions())
    assert (found.new_tasks, found.old_tasks, found.steps_per_epoch) == (15, 25, 3)
    seen = []
    for step, batch in enumerate(found.dataset(stop_step=9)):
        users = batch.user_row.numpy()
        old = users < 25
        assert old.sum() == (1 if step == 8 else 3), "the old ones go through passes of their own: 25 of 27 are drawn"
        assert (~old).sum() == (7 if step % 3 < 2 else 1)
        seen.append(users[~old])
    for epoch in range(3):
        assert sorted(np.concatenate(seen[3 * epoch:3 * epoch + 3])) == list(range(25, 40))


def test_a_batch_is_a_function_of_its_step():
    rows = interactions()
    found = sampler(rows)
    for step, batch in enumerate(found.dataset(start_step=4, stop_step=8), start=4):
        again = sampler(rows).batch(epoch=step // 3, batch=step % 3)
        for name, value in batch._asdict().items():
            np.testing.assert_array_equal(value, getattr(again, name), err_msg=name)
    width = int(batch.support_row.shape[1])
    real = np.arange(width) < batch.support_length.numpy()[:, None]
    assert (batch.support_row.numpy()[~real] == -1).all()
    assert (batch.support_label.numpy()[~real] == 0).all()
    assert not all(np.array_equal(a, b) for a, b in zip(
        found.batch(epoch=0, batch=0), sampler(rows, seed=5).batch(epoch=0, batch=0), strict=True))


def test_rows_of_a_task_are_those_of_its_user():
    rows = interactions()
    batch = sampler(rows).batch(epoch=0, batch=0)
    for user, items, length in zip(batch.user_row.numpy(), batch.support_row.numpy(), batch.support_length.numpy(),
                                   strict=True):
        assert set(items[:length]) <= set(rows.item_row[rows.user_row == user])


def test_no_share_and_nobody_old():
    assert sampler(interactions(), replay_share=0.0).old_tasks == 0
    assert sampler(interactions(new=40)).old_tasks == 0
    with pytest.raises(ConfigError, match=r"share in \[0, 1\)"):
        sampler(interactions(), replay_share=1.0)
    with pytest.raises(DataError, match="at least 5 interactions"):
        sampler(interactions(), since=2000)


def test_active_rows_are_all_rows_of_active_users():
    rows = interactions(users=3, new=1)
    np.testing.assert_array_equal(active_rows(rows, since=1000), rows.user_row == 2)


HELD = {"value": 0.70, "gain": 0.10}


@pytest.mark.parametrize("verdict,now,then,force,go_on,words", [
    ("none", {}, HELD, False, False, "drift is none; gain from adaptation is 0.1000 on the newest users"),
    ("none", {"gain": 0.081}, HELD, False, False, "drift is none"),
    ("none", {"gain": 0.079}, HELD, False, True, "0.1000 in its own evaluation, of which 80% was to be held"),
    ("none", {"gain": 0.0}, {**HELD, "gain": -0.1}, False, True, "gain from adaptation is 0.0000"),
    ("none", {"value": 0.734}, HELD, False, False, "mae is 0.7340 on the newest users, 0.7000 in its own"),
    ("none", {"value": 0.736}, HELD, False, True, "mae is 0.7360 on the newest users, 0.7000 in its own"),
    ("none", {"value": float("nan")}, HELD, False, True, "mae is nan"),
    ("none", {}, None, False, True, "has no evaluation of new users"),
    ("none", {}, HELD, True, True, "asked for although"),
    ("moderate", {}, HELD, False, True, "drift is moderate: age"),
    ("shifted", {}, HELD, False, True, "drift is shifted: age"),
])
def test_whether_a_refresh_is_needed(verdict, now, then, force, go_on, words):
    found = is_needed(verdict=verdict, drift_reasons=("age",), now={**HELD, **now}, then=then, metric="mae",
                      config=CONFIG, force=force)
    assert found.go_on is go_on
    assert words in "; ".join(found.reasons)


def test_a_decline_of_auc_is_less():
    options = {"verdict": "none", "drift_reasons": (), "metric": "auc", "config": CONFIG, "then": HELD}
    assert is_needed(now={**HELD, "value": 0.66}, **options).go_on
    assert not is_needed(now={**HELD, "value": 0.67}, **options).go_on
    assert not is_needed(now={**HELD, "value": 0.90}, **options).go_on


def test_the_threshold_of_drift():
    config = RefreshConfig(drift="shifted")
    options = {"drift_reasons": (), "now": HELD, "then": HELD, "metric": "mae", "config": config}
    assert not is_needed(verdict="moderate", **options).go_on
    assert is_needed(verdict="shifted", **options).go_on


def test_better_is_less_error_or_more_auc():
    rng = np.random.default_rng(1)
    before, better = rng.normal(0.8, 0.01, 50), rng.normal(0.7, 0.01, 50)
    before[3] = np.nan
    for metric, sign in (("mae", 1), ("auc", -1)):
        taken, found = is_better(before, better, metric=metric, gate_reasons=(), config=CONFIG)
        assert taken.go_on is (sign == 1)
        assert found["users"] == 49
        assert found["improvement"] == pytest.approx(sign * np.nanmean(before - better))
        assert found["low"] < found["improvement"] < found["high"]
        assert found["p_value"] < 1e-6
    assert not is_better(before, before, metric="mae", gate_reasons=(), config=CONFIG)[0].go_on
    much = RefreshConfig(min_improvement=0.2)
    assert not is_better(before, better, metric="mae", gate_reasons=(), config=much)[0].go_on
    kept, _ = is_better(before, better, metric="mae", gate_reasons=("worse than bias",), config=CONFIG)
    assert (kept.go_on, kept.reasons) == (False, ("the gate: worse than bias",))


def test_gain():
    assert gain("mae", adapted=0.7, unadapted=0.9) == pytest.approx(0.2)
    assert gain("auc", adapted=0.7, unadapted=0.6) == pytest.approx(0.1)


@pytest.mark.parametrize("values", [{"window_days": 0}, {"replay_share": 1.0}, {"test_share": 0.0}, {"epochs": 0},
                                    {"min_interactions": 10}, {"hold_share": 1.1}, {"learning_rate_factor": 0},
                                    {"min_improvement": -1}, {"max_decline": -1}, {"seed": -1}, {"replay_users": 0}])
def test_settings_out_of_range(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        RefreshConfig(**values)


def test_steps_are_done_once_and_again_for_other_inputs(tmp_path):
    steps, done = RefreshSteps(str(tmp_path / "steps")), []

    def make(plan):
        done.append(plan)
        return {"n": len(done)}

    plans = iter(range(10))
    options = {"plan": lambda: next(plans), "clean": lambda: done.append("clean")}
    assert steps.do("a", {"x": 1}, make, **options) == {"n": 1}
    assert steps.do("a", {"x": 1}, make, **options) == {"n": 1}
    assert done == [0]
    assert steps.do("a", {"x": 2}, make, **options) == {"n": 3}
    assert done == [0, "clean", 1]


def test_a_step_that_was_cut_off_keeps_its_plan(tmp_path):
    steps, plans = RefreshSteps(str(tmp_path)), iter(range(10))

    def fail(plan):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.do("a", 1, fail, plan=lambda: next(plans))
    assert json.loads((tmp_path / "a.json").read_text())["result"] is None
    assert steps.do("a", 1, lambda plan: {"plan": plan}, plan=lambda: next(plans),
                    clean=lambda: pytest.fail("nothing is cleaned away")) == {"plan": 0}
