import numpy as np
import pytest
import scipy.stats

from tfmeta.metrics.significance import bootstrap_interval, holm, wilcoxon


def test_interval_of_a_mean_matches_the_normal_one():
    values = np.random.default_rng(0).normal(2.0, 3.0, (900, 1))
    low, high = bootstrap_interval(values, seed=1, resamples=4000)
    half = 1.96 * values.std() / 30
    np.testing.assert_allclose([low[0], high[0]], [values.mean() - half, values.mean() + half], atol=0.02)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    low, high = bootstrap_interval(rng.exponential(1.0, (200, 600)), resamples=1000)
    assert 0.91 < ((low <= 1.0) & (high >= 1.0)).mean() < 0.97


def test_interval_is_paired_seeded_and_ignores_missing_users():
    rng = np.random.default_rng(1)
    base = rng.normal(0, 5, 300)
    values = np.stack([base, base + 0.1, np.full(300, 0.1), np.full(300, np.nan)], axis=1)
    values[:, 2] = values[:, 1] - values[:, 0]
    low, high = bootstrap_interval(values, seed=4)
    np.testing.assert_allclose([low[2], high[2]], 0.1)
    np.testing.assert_allclose(low[1] - low[0], 0.1)
    assert np.isnan(low[3]) and np.isnan(high[3])
    again = bootstrap_interval(values, seed=4)
    np.testing.assert_array_equal(again[0], low)
    gaps = np.concatenate([base, [np.nan] * 20])[:, None]
    low, high = bootstrap_interval(gaps)
    assert low[0] < base.mean() < high[0]


def test_wilcoxon_equals_scipy_and_handles_degenerate_input():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 1, 80), rng.normal(0.3, 1, 80)
    assert wilcoxon(a, b) == pytest.approx(scipy.stats.wilcoxon(a, b, method="approx").pvalue)
    assert wilcoxon(a, a) == 1.0
    assert wilcoxon(np.append(a, np.nan), np.append(b, 0.0)) == pytest.approx(wilcoxon(a, b))
    assert np.isnan(wilcoxon(np.array([1.0, np.nan])))


def test_holm_by_hand():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.5, np.nan, 0.6])), [1.0, np.nan, 1.0])
    assert holm(np.array([])).shape == (0,)
