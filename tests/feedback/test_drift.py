"""The drift report finds what has changed, and says nothing where nothing has."""

import dataclasses
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from drift_cases import ITEMS, drift_spec, make_window
from hypothesis import given, settings
from hypothesis import strategies as st

from tfmeta.data.feature import Feature
from tfmeta.errors import ConfigError, DataError
from trainer.feedback.drift import Window, drift_report
from trainer.feedback.feature_drift import feature_drift
from trainer.feedback.population_stability import (
    compare_histograms,
    expected_by_chance,
    population_stability,
    verdict_of,
)

_counts = st.lists(st.integers(0, 1000), min_size=1, max_size=30)


def test_index_by_hand():
    psi = population_stability(np.array([0.5, 0.5]), np.array([0.9, 0.1]), floor=1e-6)
    assert psi == pytest.approx(0.4 * math.log(9), rel=1e-12)  # (.9 - .5) log(.9 / .5) + (.1 - .5) log(.1 / .5)
    # An empty cell counts as the floor, on whichever side it is.
    p, q = np.array([1.0, 0.0]), np.array([0.5, 0.5])
    assert population_stability(p, q, floor=0.01) == pytest.approx(0.5 * math.log(2) + 0.49 * math.log(50), rel=1e-12)
    assert population_stability(p, q, floor=0.01) == population_stability(q, p, floor=0.01)


@given(_counts, st.data())
def test_index_is_a_divergence(first, data):
    second = data.draw(st.lists(st.integers(0, 1000), min_size=len(first), max_size=len(first)))
    first, second = np.array(first, float), np.array(second, float)
    one, other = compare_histograms(first, second), compare_histograms(second, first)
    assert one.psi >= 0 and np.isfinite(one.psi) and one.psi == pytest.approx(other.psi, abs=1e-12)
    assert 0 <= one.above_noise <= one.psi and one.noise == pytest.approx(other.noise, abs=1e-12)
    assert np.isnan(one.p_value) or 0 <= one.p_value <= 1
    if first.sum():
        assert compare_histograms(first, first).psi == 0
        assert compare_histograms(first, 3 * first).psi == pytest.approx(0, abs=1e-12)  # shares count
    if first.sum() and second.sum():
        assert one.pooled.max() == one.cells - 1


@pytest.mark.parametrize(("n", "m", "cells"), [(400, 400, 5), (2000, 300, 10)])
def test_chance_alone_is_a_scaled_chi_square(n, m, cells):
    """The noise that is subtracted is the index's mean where nothing has changed, and the test keeps its level."""
    rng = np.random.default_rng([n, m, cells])
    share = np.full(cells, 1 / cells)
    draws = [compare_histograms(a, b) for a, b in zip(rng.multinomial(n, share, 3000).astype(float),
                                                      rng.multinomial(m, share, 3000).astype(float), strict=True)]
    psi, p = np.array([d.psi for d in draws]), np.array([d.p_value for d in draws])
    noise = expected_by_chance(cells, reference=n, current=m)
    assert draws[0].noise == noise == (cells - 1) * (1 / n + 1 / m)
    assert psi.mean() == pytest.approx(noise, rel=0.06)
    assert psi.std() == pytest.approx(math.sqrt(2 * (cells - 1)) * (1 / n + 1 / m), rel=0.1)
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.015)


def test_spread_units_are_on_the_careful_side():
    """Units that spread over cells vary less than units in one cell each, so noise and test overstate chance."""
    rng = np.random.default_rng(4)
    draws = []
    for _ in range(400):
        spread = rng.dirichlet(np.full(4, 0.5), 300)
        draws.append(compare_histograms(spread[:200].sum(axis=0), spread[200:].sum(axis=0)))
    assert np.mean([d.psi for d in draws]) < 0.8 * draws[0].noise
    assert np.mean([d.p_value < 0.05 for d in draws]) < 0.03


def test_rare_cells_are_pooled():
    found = compare_histograms(np.array([500.0, 480, 1, 0, 2, 17]), np.array([520.0, 470, 0, 3, 1, 6]))
    assert found.cells == 3 and found.pooled.tolist() == [0, 1, 2, 2, 2, 2]
    # What is new altogether is no rare cell.
    found = compare_histograms(np.array([500.0, 500, 0]), np.array([250.0, 250, 500]))
    assert found.cells == 3 and found.above_noise > 1 and found.p_value < 1e-10


def test_verdict_needs_size_and_evidence():
    assert verdict_of(0.3, 0.001, alpha=0.01) == "shifted" and verdict_of(0.25, 0.001, alpha=0.01) == "shifted"
    assert verdict_of(0.2, 0.001, alpha=0.01) == "moderate" and verdict_of(0.1, 0.001, alpha=0.01) == "moderate"
    assert verdict_of(0.09, 0.0, alpha=0.01) == "stable"  # large windows see the smallest change
    assert verdict_of(5.0, 0.02, alpha=0.01) == "stable"  # small ones see the largest by chance
    assert verdict_of(5.0, float("nan"), alpha=0.01) == "stable"


@pytest.mark.parametrize(("reference", "current"), [(60, 25), (300, 40), (250, 200)])
def test_no_drift_no_alarm(reference, current):
    reports = [drift_report(make_window(2 * s, reference), make_window(2 * s + 1, current), feature_spec=drift_spec())
               for s in range(15)]
    assert [r.verdict for r in reports] == ["none"] * 15
    assert all(len(r.reasons) == 1 and "moved most" in r.reasons[0] for r in reports)
    if current < 50:
        # The rule of thumb by itself would have called something moderate more often than not.
        assert np.mean([max(f.psi for f in r.features) > 0.1 for r in reports]) > 0.5


@pytest.mark.parametrize(("change", "part", "verdict"), [
    ({"country": (0.3, 0.7)}, "users' country", "shifted"),
    ({"older": 12.0}, "users' age", "shifted"),
    ({"taste": 1.5}, "users' taste", "shifted"),
    ({"label": 1.2}, "label stars", "shifted"),
    ({"label": 0.7}, "label stars", "moderate"),
    ({"popular": np.arange(1.0, ITEMS + 1) ** 2}, "items' price", "shifted"),
    ({"prefix": "n"}, "unseen items", "shifted"),
])
def test_known_drift_is_found_and_named(change, part, verdict):
    report = drift_report(make_window(1, 400), make_window(2, 200, **change), feature_spec=drift_spec())
    assert report.verdict == verdict
    assert report.reasons[0].startswith(f"{part} {verdict}") and len(report.reasons) <= 2
    moved = {f.title for f in report.features if f.verdict != "stable"}
    assert moved <= {part, "items' plot"}  # what nobody changed stays


def test_what_stops_arriving_has_shifted():
    now = make_window(2, 200)
    now = dataclasses.replace(now, users=now.users.assign(country=""), items=now.items.assign(plot=None))
    report = drift_report(make_window(1, 400), now, feature_spec=drift_spec())
    found = {f.name: f for f in report.features}
    assert found["country"].verdict == found["plot"].verdict == "shifted"
    assert (found["country"].missing_reference, found["country"].missing_current) == (0, 1)
    assert any("users' country shifted" in r and "missing 0% before, 100% now" in r for r in report.reasons)
    # A column that is not there at all is the same thing; one that is in neither window is a mistake.
    dropped = dataclasses.replace(now, users=now.users.drop(columns="country"))
    again = drift_report(make_window(1, 400), dropped, feature_spec=drift_spec())
    assert {f.name: f for f in again.features}["country"] == found["country"]
    with pytest.raises(DataError, match=r"Feature 'country' of users requires a column .*Did you mean 'county'"):
        drift_report(dataclasses.replace(dropped, users=dropped.users.assign(county="")), dropped,
                     feature_spec=drift_spec())


def test_a_word_that_comes_up_is_found_in_long_texts():
    """Among eighty words none has a share worth naming, so a text is not one histogram of words."""
    feature = Feature("plot", "text", "string", length=100, hash_buckets=64)

    def window(seed, share):
        base, rng = make_window(seed, 300), np.random.default_rng(8)
        texts = [" ".join(f"w{i}" for i in rng.integers(0, 2000, 80)) for _ in range(ITEMS)]
        texts = [f"{text}, Zombies!" if rng.random() < share else text for text in texts]
        return dataclasses.replace(base, items=base.items.assign(
            plot=[texts[int(i[1:])] for i in base.items["item_id"]]))

    quiet = feature_drift(feature, side="item", reference=window(1, 0.1), current=window(2, 0.1))
    moved = feature_drift(feature, side="item", reference=window(1, 0.1), current=window(2, 0.7))
    assert moved.above_noise > 0.25 and moved.p_value < 1e-6 and moved.histogram[0][0] == "zombies"
    assert quiet.above_noise < 0.1 and moved.cells == 2


def test_every_user_counts_once():
    window = make_window(1, 100)
    busy = pd.DataFrame({"user_id": "busy", "item_id": [f"i{ITEMS - 1 - i}" for i in range(20)] * 200, "label": 1.0,
                         "time": 1_700_006_400})
    loud = dataclasses.replace(window, interactions=pd.concat([window.interactions, busy], ignore_index=True))
    report = drift_report(make_window(3, 200), loud, feature_spec=drift_spec())
    assert len(busy) > 2 * len(window.interactions)
    assert report.verdict == "none" and report.label.stability.n_current == 101


def test_few_users_tell_nothing():
    report = drift_report(make_window(1, 300), make_window(2, 12, country=(0, 1), label=3), feature_spec=drift_spec())
    assert report.verdict == "none"
    assert report.reasons == ("too few users to tell: 12 in the smaller window, 20 are required",)
    assert all(f.p_value is None for f in report.features) and report.label.stability.p_value is None
    few = make_window(1, 5)
    nobody = Window(few.users.iloc[:0], few.items.iloc[:0], few.interactions.iloc[:0])
    empty = drift_report(few, nobody, feature_spec=drift_spec())
    assert empty.verdict == "none" and empty.label is None
    json.loads(empty.to_json())


def test_label_and_what_is_new_by_hand():
    def window(rows, users):
        return Window(pd.DataFrame({"user_id": users}), pd.DataFrame({"item_id": ["a", "b", "c", "d"]}),
                      pd.DataFrame(rows, columns=["user_id", "item_id", "label"]))

    spec = dataclasses.replace(drift_spec(), user_features=(), item_features=())
    # Of the reference's users u has one item of two for itself, v has none.
    before = window([("u", "a", 1.0), ("u", "b", 3.0), ("v", "a", 4.0)], ["u", "v"])
    now = window([("v", "a", 5.0), ("w", "c", 2.0), ("w", "a", 2.0), ("w", "d", 2.0), ("w", "b", 4.0)], ["v", "w"])
    report = drift_report(before, now, feature_spec=spec)
    cold, label = report.cold, report.label
    assert (cold.users, cold.items, cold.expected, cold.interactions) == (0.5, 0.5, 0.25, 0.25)
    assert (label.mean_reference, label.mean_current, label.mean_shift) == (3.0, 3.75, 0.75)
    # F before: 1/4 at 1, 1/2 at 3, 1 at 4. F now: 3/8 at 2, 1/2 at 4, 1 at 5.
    assert label.ks == pytest.approx(0.5)
    assert report.current["interactions"] == 5 and report.current["first"] is None


def test_ids_of_numbers_and_items_as_tasks_are_the_same():
    windows = [make_window(s, 120, label=d) for s, d in ((1, 0), (2, 1))]
    report = drift_report(*windows, feature_spec=drift_spec())
    assert drift_report(*windows, feature_spec=drift_spec().swap_sides()) == report
    numbered = []
    for window in windows:
        items = {f"i{i}": 1000 + i for i in range(ITEMS)}
        numbered.append(Window(window.users, window.items.assign(item_id=window.items["item_id"].map(items)),
                               window.interactions.assign(item_id=window.interactions["item_id"].map(items))))
    again = drift_report(*numbered, feature_spec=drift_spec())
    assert again.reasons == report.reasons and again.cold == report.cold
    assert [f.psi for f in again.features] == pytest.approx([f.psi for f in report.features], rel=1e-9)


def test_json_and_page(tmp_path):
    gains = pd.DataFrame({"period": ["2026-01", "2026-02"], "state": "user_cold", "metric": "auc", "gain": [0.03, 0.02],
                          "low": [0.02, 0.01], "high": [0.04, 0.03]})
    report = drift_report(make_window(1, 300), make_window(2, 150, country=(0.1, 0.9), older=9, label=1),
                          feature_spec=drift_spec(), gains=gains)
    content = json.loads(report.to_json())
    assert content["verdict"] == "shifted" and content["thresholds"] == {"moderate": 0.1, "shifted": 0.25,
                                                                         "alpha": 0.01}
    assert [f["name"] for f in content["features"]] == ["country", "age", "taste", "price", "tags", "plot"]
    assert content["gain"]["points"][1]["gain"] == 0.02 and content["reference"]["users"] == 300
    page = (tmp_path / "drift.html")
    report.write_html(str(page))
    text = page.read_text("utf-8")
    assert text.count("<svg") == 1 + 6 + 1 + 1 and "users&#39; country" in text and "</html>" in text
    assert not re.search(r"<script|https?://|@import|<link|<img", text)
    before = page.read_bytes()
    report.write_html(str(page))
    assert page.read_bytes() == before


def test_wrong_windows():
    window = make_window(1, 30)
    with pytest.raises(DataError, match="interactions of the current window require column 'label'"):
        drift_report(window, dataclasses.replace(window, interactions=window.interactions.drop(columns="label")),
                     feature_spec=drift_spec())
    with pytest.raises(ConfigError, match="'alpha' requires a level between 0 and 1, received 0"):
        drift_report(window, window, feature_spec=drift_spec(), alpha=0)


_cells = st.one_of(st.none(), st.floats(), st.text(max_size=3), st.integers(-5, 5), st.lists(st.text(max_size=2),
                                                                                          max_size=4))
_KINDS = [Feature("f", "categorical", "string", vocabulary=()), Feature("f", "categorical", "int64", vocabulary=()),
          Feature("f", "multi_categorical", "string", length=2, vocabulary=()),
          Feature("f", "numeric", "float32", mean=(0.0,), std=(1.0,)), Feature("f", "text", "string", length=4)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(_KINDS), st.lists(_cells, min_size=1, max_size=12), st.lists(_cells, max_size=12))
def test_no_value_is_an_error(feature, before, now):
    """Whatever stands in a column, the comparison is a number, and of a window with itself 0."""
    windows = [Window(pd.DataFrame({"user_id": [f"u{i}" for i in range(len(values))],
                                    "f": pd.Series(values, dtype=object)}), pd.DataFrame({"item_id": []}),
                      pd.DataFrame({"user_id": [], "item_id": [], "label": []})) for values in (before, now)]
    found = feature_drift(feature, side="user", reference=windows[0], current=windows[1])
    assert np.isfinite(found.psi) and found.psi >= 0 and found.n_reference == len(before)
    if feature.kind != "text":
        assert sum(c[1] for c in found.histogram) == pytest.approx(1)
    same = feature_drift(feature, side="user", reference=windows[0], current=windows[0])
    assert same.psi == 0 and same.missing_reference == same.missing_current
