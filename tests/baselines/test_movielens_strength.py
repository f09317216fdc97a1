"""Baselines must be as strong on the fixed MovieLens-1M tasks as plain scripts are."""

import movielens_arrays
import numpy as np
import pytest

from tfmeta.baselines import build_baseline
from trainer.evaluation.evaluate import evaluate

# Spread of a figure over the ten splits.
TOLERANCE = 0.005
# MAE, NDCG@5, AUC.
REQUIRED = {
    ("damped_bias", "user_cold"): (0.733, 0.793, 0.701),
    ("als_fold_in", "user_cold"): (0.699, 0.815, 0.736),
    ("content_ridge", "item_cold"): (0.881, 0.694, 0.590),
    ("content_ridge", "both_cold"): (0.876, 0.692, 0.582),
}
ALS_AUC = {1: 0.702, 3: 0.706, 5: 0.708, 10: 0.717, 20: 0.725}


@pytest.fixture(scope="module")
def result(shared_data):
    prepared, tasks = movielens_arrays.load(shared_data)
    models = [build_baseline(name).fit(prepared) for name in ("random", "damped_bias", "content_ridge", "als_fold_in")]
    evaluation = evaluate(models, tasks, label=prepared.feature_spec.label, ks=(*ALS_AUC, "all"),
                          states=("user_cold", "item_cold", "both_cold"))
    return {(c.model, c.state, c.k): dict(zip(c.metrics, c.value, strict=True)) | {"users": c.user_row.size}
            for c in evaluation.cells}


@pytest.mark.parametrize(("model", "state"), REQUIRED)
def test_as_strong_as_measured_before(result, model, state):
    got = result[model, state, "all"]
    error, ndcg, auc = REQUIRED[model, state]
    assert got["mae"] < error + TOLERANCE
    assert got["ndcg@5"] > ndcg - TOLERANCE
    assert got["auc"] > auc - TOLERANCE


def test_als_fold_in_grows_with_the_support(result):
    values = [result["als_fold_in", "user_cold", k]["auc"] for k in (*ALS_AUC, "all")]
    assert values == sorted(values)
    assert (np.array(values[:-1]) > np.array(list(ALS_AUC.values())) - TOLERANCE).all()


def test_test_users_and_chance(result):
    assert [result["chance", s, "all"]["users"] for s in ("user_cold", "item_cold", "both_cold")] == [668, 2863, 723]
    for state in ("user_cold", "item_cold", "both_cold"):
        assert abs(result["random", state, "all"]["auc"] - 0.5) < TOLERANCE
        assert result["chance", state, "all"]["auc"] == pytest.approx(0.5)
        assert result["random", state, "all"]["ndcg@5"] == pytest.approx(result["chance", state, "all"]["ndcg@5"],
                                                                          abs=TOLERANCE)
