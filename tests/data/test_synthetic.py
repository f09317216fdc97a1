import dataclasses
import hashlib

import numpy as np
import pytest
from prepare_helpers import SMALL, small_synthetic
from scipy import stats

from tfmeta.data.prepare import prepare
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.generate import generate
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.data.synthetic.synthetic_truth import SyntheticTruth, expected_rounded
from tfmeta.errors import ConfigError

ROUNDED = dataclasses.replace(SMALL, rounded=True, rating_std=1.0)


def test_the_same_seed_gives_the_same_data():
    raw, truth = small_synthetic()
    again, same = generate(SMALL)
    np.testing.assert_array_equal(raw.interactions.label, again.interactions.label)
    np.testing.assert_array_equal(truth.taste, same.taste)
    assert raw.users.equals(again.users)
    other, _ = generate(dataclasses.replace(SMALL, seed=6))
    assert len(other.interactions) != len(raw.interactions) or (
        other.interactions.label != raw.interactions.label).any()


def test_the_data_is_pinned():
    """Figures of the synthetic data stay comparable only while these bytes stay the same."""
    raw, _ = small_synthetic()
    digest = hashlib.sha256()
    for array in (raw.interactions.user_row, raw.interactions.item_row, raw.interactions.time):
        digest.update(np.ascontiguousarray(array))
    # Rounded: the last bits of a transcendental function may differ between machines.
    digest.update(np.round(raw.interactions.label.astype(np.float64) * 1000).astype(np.int64))
    assert digest.hexdigest()[:16] == "f5057729a23a93d5"


def test_the_shape_of_the_data():
    config = SyntheticConfig(users=500, items=300, ratings_per_user=50, seed=1)
    raw, _ = generate(config)
    count = np.bincount(raw.interactions.user_row, minlength=500)
    assert abs(count.mean() - 50) < 4 and count.min() >= 20
    pair = raw.interactions.user_row.astype(np.int64) * 300 + raw.interactions.item_row
    assert len(np.unique(pair)) == len(pair)
    popularity = np.sort(np.bincount(raw.interactions.item_row, minlength=300))[::-1]
    assert popularity[:30].sum() > 0.25 * popularity.sum()
    assert raw.counts["rejected"] == 0 and raw.counts["read"] == count.sum()
    time = raw.interactions.time
    same_user = np.diff(raw.interactions.user_row) == 0
    assert (np.diff(time)[same_user] >= 0).all()
    # Time order carries no popularity, so that a temporal split is no easier.
    first = np.flatnonzero(np.append(True, ~same_user))
    mean_first = popularity_of(raw, first).mean()
    deviation = popularity_of(raw, first).std() / np.sqrt(500)
    assert abs(mean_first - popularity_of(raw, slice(None)).mean()) < 5 * deviation
    assert (raw.users["income"].isna().mean() > 0) and (raw.items["price"].isna().mean() > 0)


def popularity_of(raw, rows):
    return np.bincount(raw.interactions.item_row)[raw.interactions.item_row[rows]]


def test_the_shares_of_the_variance_are_as_configured():
    config = SyntheticConfig(users=3000, items=400, seed=2, cluster_share=0.2, taste_share=0.3, user_bias_share=0.1,
                             item_bias_share=0.15, clusters=40)
    raw, truth = generate(config)
    user, item = raw.interactions.user_row, raw.interactions.item_row
    noise = raw.interactions.label - truth.expected_label(user, item)
    np.testing.assert_allclose(noise.var() / 0.36, 0.25, atol=0.01)
    np.testing.assert_allclose(truth.bias.var() / 0.36, 0.1, atol=0.01)
    match = np.einsum("nd,nd->n", truth.taste[user], truth.vector[item])
    np.testing.assert_allclose(match.var() / 0.36, 0.5, atol=0.05)
    np.testing.assert_allclose((truth.vector**2).sum(1), config.dimensions)


def brute_force(truth, user, support, labels, query):
    """Posterior mean of the query by conditioning the joint normal of labels, cluster by cluster."""
    config = truth.config
    items = np.concatenate([support, query]).astype(int)
    x = truth.vector[items]
    n, dims = len(support), x.shape[1]
    covariance = (config.std("user_bias") ** 2 + config.std("taste") ** 2 / dims * x @ x.T)
    noisy = covariance[:n, :n] + config.std("noise") ** 2 * np.eye(n)
    means, weights = [], []
    for cluster, prior in zip(truth.cluster_mean, truth.cluster_prior[user], strict=True):
        mean = config.rating_mean + truth.item_bias[items] + x @ cluster
        gap = labels - mean[:n]
        means.append(mean[n:] + (covariance[n:, :n] @ np.linalg.solve(noisy, gap) if n else 0.0))
        weights.append(np.log(prior) + (stats.multivariate_normal.logpdf(gap, cov=noisy) if n else 0.0))
    weights = np.exp(np.array(weights) - max(weights))
    return (weights / weights.sum()) @ np.array(means)


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(SMALL, clusters=1, user_feature_information=1.0),
                                    dataclasses.replace(SMALL, clusters=3, dimensions=2)])
def test_the_fold_in_is_the_posterior_mean(config):
    _, truth = generate(config)
    rng = np.random.default_rng([0])
    lengths = np.array([0, 1, 2, 7, 15, 3])
    support = rng.integers(config.items, size=(6, 15))
    labels = rng.normal(3.0, 1.0, size=(6, 15))
    query = rng.integers(config.items, size=(6, 4))
    users = rng.integers(config.users, size=6)
    padded, padded_labels = support.copy(), labels.copy()
    for t, n in enumerate(lengths):
        padded[t, n:], padded_labels[t, n:] = -1, np.nan
    found = truth.fold_in(user_row=users, support_item=padded, support_label=padded_labels, support_length=lengths,
                          query_item=query)
    for t, n in enumerate(lengths):
        np.testing.assert_allclose(found[t], brute_force(truth, users[t], support[t, :n], labels[t, :n], query[t]),
                                   rtol=1e-9)


def test_the_posterior_mean_is_calibrated():
    """Over users drawn from the model no shift or stretch of the fold-in lowers its error (regression on it
    has slope 1), and more support helps."""
    _, truth = generate(SyntheticConfig(users=3000, items=120, seed=9))
    rng = np.random.default_rng([1])
    items = np.argsort(rng.random((3000, 120)), axis=1)[:, :24]
    users = np.arange(3000)
    latent = truth.expected_label(users[:, None], items)
    labels = latent + rng.normal(0, truth.config.std("noise"), items.shape)
    errors = []
    for k in (0, 3, 20):
        found = truth.fold_in(user_row=users, support_item=items[:, :20], support_label=labels[:, :20],
                              support_length=np.full(3000, k), query_item=items[:, 20:])
        gap = latent[:, 20:] - truth.config.rating_mean - truth.item_bias[items[:, 20:]]
        signal = found - truth.config.rating_mean - truth.item_bias[items[:, 20:]]
        slope = (gap * signal).sum() / (signal**2).sum()
        assert abs(slope - 1) < 0.12, (k, slope)
        errors.append(np.sqrt(((found - latent[:, 20:]) ** 2).mean()))
    assert errors[0] > 1.2 * errors[1] > 1.2 * errors[2]


def test_rounding_by_sampling():
    mean, std = np.array([0.2, 1.4, 3.0, 4.9, 7.0]), 0.7
    sampled = np.random.default_rng([0]).normal(mean[:, None], std, (5, 400_000))
    monte_carlo = np.clip(np.round(sampled), 1, 5).mean(1)
    np.testing.assert_allclose(expected_rounded(mean, std), monte_carlo, atol=5e-3)
    raw, truth = generate(ROUNDED)
    assert set(np.unique(raw.interactions.label)) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    noise = raw.interactions.label - truth.expected_label(raw.interactions.user_row, raw.interactions.item_row)
    assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(len(noise))


def test_no_support_uses_the_features():
    """With telling features the prediction at k = 0 depends on the user; with none it is the population's."""
    for information, spread in ((0.0, False), (0.9, True)):
        _, truth = generate(dataclasses.replace(SMALL, user_feature_information=information,
                                             cluster_share=0.3))
        found = truth.fold_in(user_row=np.arange(50), support_item=np.full((50, 1), -1),
                              support_label=np.full((50, 1), np.nan), support_length=np.zeros(50, int),
                              query_item=np.tile(np.arange(5), (50, 1)))
        assert (found.std(axis=0) > 0.02).all() == spread


@pytest.mark.parametrize("config", [SMALL, ROUNDED])
def test_the_oracle_of_a_prepared_directory(tmp_path, config):
    raw, truth = generate(config)
    prepared = prepare(raw=raw, out=str(tmp_path / "out"), oracle=truth.oracle,
                       split=SplitConfig(query_size=4, min_interactions=6, num_splits=3))
    tasks, oracle = prepared.tasks("test"), prepared.oracle()
    assert list(oracle) == ["expected", *(f"fold_in_{k}" for k in (0, 1, 3, 5, 10, 20, "all"))]
    real = tasks.query_item >= 0
    error = {n: np.sqrt(np.nanmean((v - tasks.query_label)[real] ** 2)) for n, v in oracle.items()}
    assert all(v.shape == tasks.query_item.shape and np.isfinite(v[real]).all() for v in oracle.values())
    assert error["expected"] < error["fold_in_all"] < error["fold_in_5"] < error["fold_in_0"]
    task = int(np.argmax(tasks.support_length))
    if not config.rounded:
        wanted = brute_force(truth, tasks.user_row[task], tasks.support_item[task, :3],
                             tasks.support_label[task, :3].astype(np.float64), tasks.query_item[task])
        np.testing.assert_allclose(oracle["fold_in_3"][task], wanted, rtol=1e-5)


def test_content_tells_the_latent_vector():
    """The items' own features suffice for item-cold prediction: the embedding is nearly a rotation of the
    vector.
    """
    raw, truth = generate(SyntheticConfig(users=50, items=400, seed=3))
    embedding = np.stack(raw.items["embedding"].to_numpy())
    fitted = embedding @ np.linalg.lstsq(embedding, truth.vector, rcond=None)[0]
    assert 1 - ((fitted - truth.vector) ** 2).mean() / truth.vector.var() > 0.9


@pytest.mark.parametrize(("values", "message"), [
    ({"taste_share": 0.9}, "add up to less than 1"), ({"users": 0}, "'users' requires at least 1"),
    ({"rating_std": 0.0}, "rating_std")])
def test_wrong_settings(values, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**values)


def test_rows_outside_the_catalogue_give_nan():
    _, truth = small_synthetic()
    assert isinstance(truth, SyntheticTruth)
    found = truth.fold_in(user_row=np.array([0]), support_item=np.array([[1]]), support_label=np.array([[3.0]]),
                          support_length=np.array([1]), query_item=np.array([[2, -1, 10_000]]))
    assert np.isfinite(found[0, 0]) and np.isnan(found[0, 1:]).all()
