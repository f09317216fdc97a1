import numpy as np
import pytest

from tfmeta.data.label import Label
from tfmeta.metrics import MetricSet, lower_is_better, rating

SPAN = {"minimum": 1.0, "maximum": 5.0}
SCORE = np.array([[6.0, 2.0, np.nan], [3.0, 3.0, 3.0]])
LABEL = np.array([[5.0, 4.0, np.inf], [1.0, 3.0, 4.0]])
LENGTH = np.array([2, 3])


def test_errors_clip_and_ignore_padding():
    np.testing.assert_allclose(rating.mae(SCORE, LABEL, LENGTH, **SPAN), [1.0, 1.0])
    np.testing.assert_allclose(rating.rmse(SCORE, LABEL, LENGTH, **SPAN), [np.sqrt(2.0), np.sqrt(5 / 3)])
    assert rating.pooled_rmse(SCORE, LABEL, LENGTH, **SPAN) == pytest.approx(np.sqrt(9 / 5))
    assert np.isnan(rating.mae(SCORE, LABEL, np.array([0, 3]), **SPAN)[0])


def test_rounding_goes_to_the_nearest_level_and_halves_go_down():
    got = rating.nearest_level(np.array([0.2, 1.4, 1.5, 1.6, 9.0, 3.9]), np.array([1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(got, [1, 1, 1, 2, 4, 4])


def test_logloss_and_accuracy_by_hand():
    p, y, n = np.array([[0.8, 0.3, 0.0]]), np.array([[1.0, 0.0, 1.0]]), np.array([3])
    expected = -(np.log(0.8) + np.log(0.7) + np.log(1e-7)) / 3
    np.testing.assert_allclose(rating.logloss(p, y, n, threshold=1.0), [expected])
    np.testing.assert_allclose(rating.accuracy(p, y, n, threshold=1.0, cut=0.5), [2 / 3])


@pytest.mark.parametrize("unit", ["rating", "click"])
def test_floor_is_the_mean_of_uniform_scores(unit):
    label = Label("y", "rating", 1, 5, 4) if unit == "rating" else Label("y", "click", 0, 1, 1)
    rng = np.random.default_rng(0)
    y = rng.integers(label.minimum, label.maximum + 1, (3, 6)).astype(float)
    metrics = MetricSet(label, cutoffs=(2,), levels=(1, 2, 3, 4, 5) if unit == "rating" else None)
    floor = metrics.floor(y, np.full(3, 6))
    y = np.tile(y, (20_000, 1))
    drawn = metrics.compute(rng.uniform(label.minimum, label.maximum, y.shape), y, np.full(len(y), 6),
                            probability=unit == "click")
    assert set(drawn) == set(floor)
    for name, value in drawn.items():
        mean = value.reshape(-1, 3).mean(axis=0)
        if name == "rmse":  # the root of the mean square bounds the mean root
            assert (floor[name] >= mean - 1e-3).all() and (floor[name] - mean < 0.06).all()
        else:
            np.testing.assert_allclose(mean, floor[name], atol=0.02, err_msg=name)


def test_ceiling_bounds_every_score():
    rng = np.random.default_rng(1)
    y, n = rng.integers(1, 6, (50, 7)).astype(float), rng.integers(0, 8, 50)
    metrics = MetricSet(Label("y", "rating", 1, 5, 4), cutoffs=(1, 5), levels=(1, 2, 3, 4, 5))
    best, got = metrics.ceiling(y, n), metrics.compute(rng.normal(3, 2, y.shape), y, n)
    assert set(best) == set(got)
    for name, value in got.items():
        gap = (value - best[name]) * (1 if lower_is_better(name) else -1)
        assert (gap[~np.isnan(gap)] >= -1e-12).all(), name
        np.testing.assert_array_equal(np.isnan(value), np.isnan(best[name]), err_msg=name)


def test_weights_and_rankers_have_list_metrics_only():
    y, n = np.array([[3.0, 0.0]]), np.array([2])
    weights = MetricSet(Label("plays", "weight", 0, 100, 1)).compute(y, y, n)
    ranker = MetricSet(Label("y")).compute(y, y + 1, n, label_unit=False)
    assert set(weights) == set(ranker) and "mae" not in weights and "accuracy" not in weights
