"""Profiles against refits written out, and what a profile may and may not depend on."""

import dataclasses

import numpy as np
import pytest
from content_cases import FEATURES, make_items, make_targets

from tfmeta.content import content_profile
from tfmeta.content.content_profile import ContentProfile
from tfmeta.content.content_profile_config import ContentProfileConfig
from tfmeta.errors import ConfigError

WEIGHTS, NUGGETS = np.array([0.5, 0.1, 0.3, 0.2, 1.0]), (0.1, 0.3)
COLD, TOLERANCE = 8, {"rtol": 1e-8, "atol": 1e-8}


@pytest.fixture
def fixed_weights(monkeypatch):
    """Takes the choice of weights and noise, the one step that sees all targets at once, out of the fit."""
    monkeypatch.setattr(content_profile, "_search", lambda *_: (WEIGHTS.copy(), NUGGETS))


def fit(items=None, targets=None, **config):
    items = make_items() if items is None else items
    return ContentProfile.fit(items, features=FEATURES, targets=make_targets() if targets is None else targets,
                              config=ContentProfileConfig(**config))


def similarities(profile, items):
    """`[J, I, I]` of all items, cold ones too."""
    return np.stack([k.between(*[k.encode(items[k.feature.name])] * 2) for k in profile.kernels])


def refit(profile, similar, targets, *, of, on):
    """The profile of item `of` from the items `on` alone, by the textbook formulas."""
    total = np.tensordot(WEIGHTS, similar, axes=1) + 0.1
    added = [nugget + targets.noise[on][:, columns].mean(axis=1)
             for nugget, columns in zip(NUGGETS, (slice(0, 1), slice(1, None)), strict=True)]
    among, to = total[np.ix_(on, on)], total[of, on]
    bias = to @ np.linalg.solve(among + np.diag(added[0]), targets.values[on, 0])
    factors = to @ np.linalg.solve(among + np.diag(added[1]), targets.values[on, 1:])
    variance = total[of, of] - to @ np.linalg.solve(among + np.diag(added[0]), to)
    alone = [s[of, on] @ np.linalg.solve(s[np.ix_(on, on)] + np.diag(added[0]), targets.values[on, 0]) for s in similar]
    return np.concatenate([[bias, np.sqrt(variance)], alone, factors])


def test_a_fitted_item_has_what_a_fit_without_it_predicts(fixed_weights):
    items, targets = make_items(), make_targets()
    profile = fit(items, targets)
    warm, similar = np.flatnonzero(targets.count > 0), similarities(profile, items)
    assert len(warm) == 28 and profile.table.shape == (36, profile.width) == (36, 2 + 5 + 3)
    for item in warm:
        expected = refit(profile, similar, targets, of=item, on=np.setdiff1d(warm, item))
        np.testing.assert_allclose(profile.table[item], expected, **TOLERANCE)


def test_a_cold_item_has_what_the_fit_predicts(fixed_weights):
    items, targets = make_items(), make_targets()
    profile = fit(items, targets)
    warm, similar = np.flatnonzero(targets.count > 0), similarities(profile, items)
    np.testing.assert_allclose(profile.predict(items.iloc[-COLD:]), profile.table[-COLD:], **TOLERANCE)
    for item in range(36 - COLD, 36):
        np.testing.assert_allclose(profile.table[item], refit(profile, similar, targets, of=item, on=warm), **TOLERANCE)


def test_items_beyond_the_bound_are_predicted_like_cold_ones(fixed_weights):
    items, targets = make_items(), make_targets()
    profile = fit(items, targets, max_items=12)
    fitted = np.argsort(-targets.count, kind="stable")[:12]
    rest = np.setdiff1d(np.arange(36), fitted)
    np.testing.assert_allclose(profile.table[rest], profile.predict(items.iloc[rest]), **TOLERANCE)
    assert len(profile.solution) == 12
    # To those that were fitted, `predict` gives back what they taught it: no more a prediction.
    assert not np.allclose(profile.table[fitted], profile.predict(items.iloc[fitted]), atol=0.01)


def test_blocks_do_not_matter(fixed_weights, monkeypatch):
    items = make_items()
    profile = fit(items)
    whole = profile.predict(items)
    monkeypatch.setattr(content_profile, "_BLOCK", 5)
    np.testing.assert_allclose(profile.predict(items), whole, **TOLERANCE)
    assert profile.predict(items.iloc[:0]).shape == (0, profile.width)


def test_values_that_nobody_fitted_has_make_less_certain_and_change_nothing_else(fixed_weights):
    items = make_items()
    profile = fit(items)
    one = items.iloc[[0]].reset_index(drop=True)
    other = one.copy()
    other.at[0, "cast"] = np.append(one.at[0, "cast"], ["nobody", "noone"]).astype(object)
    before, after = profile.predict(one)[0], profile.predict(other)[0]
    assert after[1] > before[1] + 0.05
    np.testing.assert_allclose(np.delete(after, 1), np.delete(before, 1), **TOLERANCE)
    # A longer text of unknown words is less similar to the others, which know the rest of it.
    other = one.copy()
    other["plot"] = other["plot"] + " unheard unseen"
    alone = 2 + [f.name for f in FEATURES].index("plot")
    assert 0 < profile.predict(other)[0, alone] / before[alone] < 1


def test_own_interactions_do_not_reach_the_own_profile_at_fixed_weights(fixed_weights):
    """Neither target nor noise of an item is in its row, at the same weights and other items' targets."""
    items, targets = make_items(), make_targets()
    before = fit(items, targets).table
    for item in (0, 13, 27):
        values, noise = targets.values.copy(), targets.noise.copy()
        values[item] += [3.0, -2.0, 1.0, 5.0]
        noise[item] *= 4
        after = fit(items, dataclasses.replace(targets, values=values, noise=noise)).table
        np.testing.assert_allclose(after[item], before[item], **TOLERANCE)
        changed = ~np.isclose(after, before, atol=1e-6).all(axis=1)
        assert changed.sum() > 20 and not changed[item]


def test_labels_of_cold_items_do_not_matter():
    """Targets of items without training interactions are not read, not even by the choice of weights."""
    targets = make_targets()
    values = targets.values.copy()
    values[-COLD:] = 1e6
    profile, other = fit(targets=targets), fit(targets=dataclasses.replace(targets, values=values))
    np.testing.assert_array_equal(profile.table, other.table)


def test_the_search_finds_the_feature_that_tells():
    """Biases that follow the price: its weight is the largest and most of the variance is explained."""
    items, targets = make_items(80), make_targets(80)
    price = np.nan_to_num(items["price"].to_numpy(np.float64))
    values = np.where((targets.count > 0)[:, None], np.column_stack([np.tanh(price)] * 4), 0.0)
    noise = np.full_like(targets.noise, 0.01)
    profile = fit(items, dataclasses.replace(targets, values=values, noise=noise))
    assert np.argmax(profile.weights) == 4 and profile.explained > 0.8
    cold = profile.table[-COLD:, 0][items["price"].iloc[-COLD:].notna()]
    expected = np.tanh(price)[-COLD:][items["price"].iloc[-COLD:].notna()]
    assert np.abs(cold - expected).mean() < 0.3 * np.abs(expected).mean()
    shuffled = dataclasses.replace(targets, values=np.random.default_rng(1).permutation(values), noise=noise)
    assert fit(items, shuffled).explained < 0.2


def test_no_sweep_leaves_equal_weights():
    np.testing.assert_array_equal(fit(sweeps=0).weights, np.full(5, 0.2))


def test_items_that_are_all_alike_explain_nothing():
    targets = make_targets()
    profile = fit(targets=dataclasses.replace(targets, values=np.zeros_like(targets.values)))
    assert profile.explained == 0.0 and np.isfinite(profile.table).all()
    np.testing.assert_array_equal(profile.table[:, 0], 0)


@pytest.mark.parametrize("values, name", [
    ({"factors": 0}, "factors"), ({"max_items": 1}, "max_items"), ({"search_items": 1}, "search_items"),
    ({"sweeps": -1}, "sweeps"), ({"name": "a b"}, "name")])
def test_settings_are_checked(values, name):
    with pytest.raises(ConfigError, match=f"'{name}' requires"):
        ContentProfileConfig(**values)
