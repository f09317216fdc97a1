"""The stream with a known drift, and the arithmetic of the benchmark on it."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.feedback import METRICS, POLICIES, all_rows, draw, drifting_stream, rows_of
from tfmeta.data.feature import Feature
from tfmeta.data.synthetic.drifting import generate_drifting
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import DataError
from trainer.feedback.refresh_data import _as_ids

SMALL = SyntheticConfig(users=400, items=50, ratings_per_user=25, seed=3)


def test_no_turn_is_the_plain_generator():
    raw, truth = generate(SMALL)
    still = generate_drifting(SMALL, turn=0.0).interactions.set_index(["user_id", "item_id"]).sort_index()
    rows = raw.interactions
    plain = pd.DataFrame({"user_id": raw.users["user_id"].to_numpy()[rows.user_row],
                          "item_id": raw.items["item_id"].to_numpy()[rows.item_row], "label": rows.label,
                          "time": rows.time, "expected": truth.expected_label(rows.user_row, rows.item_row)})
    plain = plain.set_index(["user_id", "item_id"]).sort_index()
    np.testing.assert_allclose(still["rating"], plain["label"])
    np.testing.assert_array_equal(still["time"], plain["time"])
    np.testing.assert_allclose(still["expected"], plain["expected"])


def test_after_a_quarter_turn_nothing_is_left_of_the_items():
    """Item means of the year's ends: alike without a turn, unrelated after 90 degrees, opposite after 180."""
    config = SyntheticConfig(users=3000, items=40, ratings_per_user=25, seed=4, item_bias_share=0.4, taste_share=0.2)

    def correlation(turn):
        rows = generate_drifting(config, turn=turn).interactions
        assert rows["time"].is_monotonic_increasing
        share = (rows["time"] - rows["time"].min()) / (rows["time"].max() - rows["time"].min())
        first, last = (rows[part].groupby("item_id")["expected"].mean() for part in (share < 0.15, share > 0.85))
        return np.corrcoef(first, last.loc[first.index])[0, 1]

    assert correlation(0.0) > 0.9
    assert abs(correlation(90.0)) < 0.5
    assert correlation(180.0) < -0.8


def test_variance_stays():
    for turn in (0.0, 90.0):
        rows = generate_drifting(SyntheticConfig(users=2000, items=100, seed=5), turn=turn).interactions
        half = rows["time"] > rows["time"].median()
        assert rows.loc[half, "rating"].std() == pytest.approx(0.6, abs=0.06)


def test_periods_are_by_arrival():
    stream = drifting_stream(seed=1, turn=90.0, users=300, periods=3)
    parts = [set(stream.arrivals(start, end)) for start, end in zip(stream.bounds, stream.bounds[1:], strict=False)]
    assert sum(map(len, parts)) == len(set.union(*parts)) > 150
    early = set(stream.events.loc[stream.events["time"] < stream.bounds[1], "user_id"])
    assert not parts[1] & early
    assert parts[0] <= early


def values(**of_policy):
    frames = [pd.DataFrame({"policy": policy, "k": "all", "user_row": [2, 1], **{m: [v + 0.1, v] for m in METRICS}})
              for policy, v in of_policy.items()]
    return pd.concat(frames, ignore_index=True)


def cost(seconds):
    return {"train_seconds": seconds, "train_steps": 10 * seconds}


def test_rows_are_means_and_paired_differences(tmp_path):
    costs = {**dict.fromkeys(POLICIES, cost(2.0)), "never": cost(0.0)}
    costs["refresh"] = {**cost(1.0), "drift": {"verdict": "moderate", "reason": "age"}}
    given = values(never=0.8, refresh=0.5, scratch=0.6, scratch_window=0.7)
    rows = {(r["model"], r["metric"]): r for r in rows_of("drift", 0, 2, costs, given)}
    assert rows["refresh", "mae"]["value"] == pytest.approx(0.55)
    assert rows["refresh", "better_than_never_mae"]["value"] == pytest.approx(0.3), "less error is better"
    assert rows["refresh", "better_than_scratch_mae"]["value"] == pytest.approx(0.1)
    assert rows["refresh", "better_than_never_auc"]["value"] == pytest.approx(-0.3)
    assert rows["scratch", "better_than_never_mae"]["low"] == pytest.approx(0.2)
    assert ("scratch", "better_than_refresh_mae") not in rows
    assert (rows["refresh", "drift"]["value"], rows["refresh", "drift"]["reason"]) == (1, "age")
    every = all_rows("drift", {seed: [(1, costs, given), (2, costs, given)] for seed in (0, 1)})
    (mean,) = (r for r in every if r["seed"] == "mean" and (r["model"], r["metric"]) == ("refresh", "mae"))
    assert (mean["period"], mean["users"], mean["value"]) == ("all", 4, pytest.approx(0.55))
    (seconds,) = (r for r in every if r["seed"] == "mean" and (r["model"], r["metric"]) == ("scratch", "train_seconds"))
    assert seconds["value"] == 2.0
    draw(every, str(tmp_path / "a.svg"))
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_ids_of_the_log_take_the_type_of_the_model():
    number = Feature(name="movie_id", kind="categorical", dtype="int64", vocabulary=())
    assert _as_ids(pd.Series(["12", "7"]), number, where="The log").tolist() == [12, 7]
    with pytest.raises(DataError, match="The log requires whole numbers as movie_id, received 'x7'"):
        _as_ids(pd.Series(["12", "x7"]), number, where="The log")


def test_the_document_shows_the_results_file(repository):
    import json

    from benchmarks.feedback import RESULTS, table

    document = (repository / "docs" / "feedback_loop.md").read_text("utf-8")
    assert table(json.loads(RESULTS.read_text("utf-8"))) in document
