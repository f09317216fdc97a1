"""The promotion gate on hand-made evaluations."""

import math

import pytest

from export import gate
from tfmeta.errors import ConfigError, DataError, ExportError

# (adapted, unadapted, bias baseline) of a model that wins everywhere.
WINS = {"auc": (0.74, 0.71, 0.70), "ndcg@5": (0.82, 0.80, 0.79), "mae": (0.70, 0.81, 0.73)}


def rows(values=WINS, *, state="user_cold", model="maml", baseline="damped_bias", **more):
    made = []
    for metric, (adapted, unadapted, bias) in values.items():
        made += [{"state": state, "model": model, "role": "learner", "k": 0, "metric": metric, "value": unadapted},
                 {"state": state, "model": model, "role": "learner", "k": 5, "metric": metric, "value": -1e9},
                 {"state": state, "model": model, "role": "learner", "k": "all", "metric": metric, "value": adapted}]
        made += [{"state": state, "model": baseline, "role": "reference", "k": k, "metric": metric, "value": bias}
                 for k in (0, "all") if bias is not None]
    return [{**row, "selected": row["role"] == "learner", **more} for row in made]


def test_a_model_that_wins_everywhere_passes():
    result = gate.check({"environment": {}, "rows": rows() + rows(state="warm")})
    assert result.passed and result.reasons == ()
    assert (result.learner, result.baseline) == ("maml", "damped_bias")
    assert len(result.comparisons) == 2 * 3 * 2
    assert all(c["k"] == "all" and c["passed"] for c in result.comparisons)
    result.require_passed("runs/first")


@pytest.mark.parametrize("metric", WINS)
@pytest.mark.parametrize("opponent", [1, 2])
def test_each_metric_and_opponent_can_hold_a_model_back(metric, opponent):
    """A tie is no win; a last digit in the metric's own direction is."""
    other = WINS[metric][opponent]
    better = math.nextafter(other, -math.inf if metric == "mae" else math.inf)
    worse = math.nextafter(other, math.inf if metric == "mae" else -math.inf)
    for adapted, passed in ((better, True), (other, False), (worse, False)):
        values = dict(WINS)
        unadapted, bias = WINS[metric][1:]
        # The opponent that is not asked about loses whatever the model does.
        lost = 9.0 if metric == "mae" else -9.0
        values[metric] = (adapted, unadapted if opponent == 1 else lost, bias if opponent == 2 else lost)
        result = gate.check(rows() + rows(values, state="item_cold"))
        assert result.passed is passed
        assert len(result.reasons) == (not passed)
        if not passed:
            assert result.reasons[0].startswith("item-cold ") and f"{adapted:.4f}" in result.reasons[0]
            assert ("(unadapted)" if opponent == 1 else "(damped bias)") in result.reasons[0]
            with pytest.raises(ExportError, match=r"keeps 'runs/first' back: item-cold"):
                result.require_passed("runs/first")


def test_all_reasons_are_named():
    worst = {m: (b, b, b) for m, (_, _, b) in WINS.items()}
    assert len(gate.check(rows(worst) + rows(worst, state="warm")).reasons) == 2 * 3 * 2
    assert len(gate.check(rows(worst) + rows(worst, state="warm"), states=["warm"], metrics=["auc"]).reasons) == 2


def test_popularity_stands_for_the_bias_of_weights():
    """Scores of weights are preferences: no error in the label's unit on either side, and none is asked for."""
    values = {"auc": WINS["auc"], "ndcg@5": WINS["ndcg@5"]}
    result = gate.check(rows(values, baseline="popularity"))
    assert result.passed and result.baseline == "popularity" and len(result.comparisons) == 4
    mixed = gate.check(rows({**values, "mae": (0.7, 0.8, None)}, baseline="popularity"))
    assert mixed.passed and [c["opponent"] for c in mixed.comparisons if c["metric"] == "mae"] == ["unadapted"]


def test_undefined_values_count_against_the_model():
    undefined = [{**r, "value": None} if r["role"] == "learner" and r["k"] == "all" and r["metric"] == "auc" else r
                 for r in rows(state="warm")]
    # The next best support has a value, which is what is judged then.
    assert not gate.check(rows() + undefined).passed
    no_baseline_value = [r for r in rows(state="warm") if not (r["role"] == "reference" and r["metric"] == "mae")]
    result = gate.check(rows() + no_baseline_value)
    assert result.reasons == ("warm MAE: no value to compare with damped_bias",)


def test_history_variants_are_not_judged():
    variant = rows({m: (0, 0, 0) for m in WINS}, model="maml_history", baseline="damped_bias_history",
                   uses_history=True)
    assert gate.check(rows() + variant).passed


def test_several_learners():
    other = [{**r, "selected": False} for r in rows({m: (b, b, b) for m, (_, _, b) in WINS.items()}, model="anil")]
    both = rows() + other
    assert gate.check(both).learner == "maml"
    assert not gate.check(both, learner="anil").passed
    with pytest.raises(ExportError, match="requires one learner, the evaluation has maml, anil"):
        gate.check([{**r, "selected": False} for r in both])
    with pytest.raises(ExportError, match=r"no learner 'maml2'.*'maml'"):
        gate.check(both, learner="maml2")


@pytest.mark.parametrize(("evaluation", "error", "message"), [
    ({}, ExportError, "tfmeta evaluate"), ([], ExportError, "tfmeta evaluate"),
    ([{"state": "warm"}], DataError, "lacks"),
    ([r for r in rows() if r["role"] == "learner"], ExportError, r"bias baseline \(damped_bias or popularity\)"),
    (rows() + [r for r in rows(state="warm") if r["role"] == "learner"], ExportError, "in every evaluated state"),
    ([r for r in rows() if r["role"] == "reference"], ExportError, "one learner, the evaluation has none"),
    ([r for r in rows() if r["k"] != 0], ExportError, r"k = 0\) in state 'user_cold'"),
    ([{**r, "value": None} for r in rows()], ExportError, "one learner"),
    (rows({"mrr": (1, 0, 0)}), ExportError, "one of the metrics auc, ndcg@5, mae, the evaluation has none")])
def test_evaluations_that_cannot_be_judged(evaluation, error, message):
    with pytest.raises(error, match=message):
        gate.check(evaluation)


def test_only_the_unadapted_model_was_evaluated():
    result = gate.check([r for r in rows() if r["k"] == 0])
    assert not result.passed and all("no value to compare" in r for r in result.reasons)


def test_unknown_states():
    with pytest.raises(ConfigError, match="Unknown state 'user-cold'"):
        gate.check(rows(), states=["user-cold"])
    with pytest.raises(ExportError, match="no state 'warm', only user_cold"):
        gate.check(rows(), states=["warm"])
