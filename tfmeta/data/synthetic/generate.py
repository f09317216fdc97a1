"""Draws synthetic users, items and ratings."""

import numpy as np
import pandas as pd

from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.label_schema import LabelSchema
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.data.synthetic.synthetic_truth import SyntheticTruth

_GENRES, _REGIONS, _AGES, _EMBEDDING, _TAGS = 8, 8, 6, 8, 3
_LEAST_RATINGS = 20
_WORDS = ("harbour", "winter", "engine", "orchard", "signal", "letter", "river", "market", "garden", "mirror",
          "summit", "lantern", "voyage", "quarry", "violin", "desert")
START = 1_600_000_000  # 13 September 2020, in unix seconds.
YEAR = 365 * 86_400


def generate(config: SyntheticConfig | None = None) -> tuple[RawData, SyntheticTruth]:
    """Draws a data set; the same settings give the same data in every process.

    Users have a region, an age group and an income that tell a little of their taste cluster. Items have a
    genre, tags, a price (which carries part of the item bias), a year, a noisy linear image of their latent
    vector (`embedding`) and a description in words. Item popularity follows a power law. See
    `SyntheticTruth` for the ratings. Ratings have no label outside their bounds: 1 to 5 if rounded, else
    five standard deviations.

    Returns:
      The raw data, and what is true of it; row i of `truth` is row i of `raw.users` and `raw.items`.
    """
    config = config or SyntheticConfig()

    def rng(stream: int) -> np.random.Generator:
        return np.random.default_rng([config.seed, stream])

    users, cluster_mean, taste, bias, prior = draw_users(config, rng(1))
    items, vector, item_bias = draw_items(config, rng(2))
    truth = SyntheticTruth(config=config, taste=taste, bias=bias, vector=vector, item_bias=item_bias,
                           cluster_mean=cluster_mean, cluster_prior=prior)
    user_row, item_row, time = draw_choices(config, rng(3))
    latent = (config.rating_mean + item_bias[item_row] + bias[user_row]
              + np.einsum("nd,nd->n", taste[user_row], vector[item_row])
              + rng(4).normal(0.0, config.std("noise"), len(user_row)))
    schema = synthetic_schema(config)
    rating = np.clip(np.round(latent) if config.rounded else latent, schema.label.minimum, schema.label.maximum)
    interactions = pd.DataFrame({"user_id": users["user_id"].to_numpy()[user_row],
                                 "item_id": items["item_id"].to_numpy()[item_row],
                                 "rating": rating.astype(np.float32), "time": time})
    return RawData.from_frames(interactions, users=users, items=items, schema=schema), truth


def synthetic_schema(config: SyntheticConfig) -> Schema:
    """Returns the schema of the generated data."""
    reach = 5 * config.rating_std
    bounds = dict(minimum=1.0, maximum=5.0, threshold=4.0) if config.rounded else dict(
        minimum=config.rating_mean - reach, maximum=config.rating_mean + reach,
        threshold=config.rating_mean + config.rating_std / 2)
    return Schema(
        label=LabelSchema(name="rating", **bounds), timestamp="time", title="title",
        user_features=(FeatureSchema("region", "categorical"),
                       FeatureSchema("age_group", "categorical", dtype="int64"),
                       FeatureSchema("income", "numeric")),
        item_features=(FeatureSchema("genre", "categorical"),
                       FeatureSchema("tags", "multi_categorical", length=_TAGS + 1),
                       FeatureSchema("price", "numeric"), FeatureSchema("year", "numeric"),
                       FeatureSchema("embedding", "dense_vector", length=_EMBEDDING),
                       FeatureSchema("description", "text", length=12, hash_buckets=256)))


def _ids(prefix: str, number: int) -> list[str]:
    # Zero-padded: the order of the ids is the order of the rows.
    width = len(str(number - 1))
    return [f"{prefix}{n:0{width}d}" for n in range(number)]


def draw_users(config, rng):
    """Returns the table of users, the clusters' mean tastes, each user's taste and bias, and P(cluster | features)."""
    number, dims, clusters = config.users, config.dimensions, config.clusters
    cluster_mean = rng.normal(size=(clusters, dims))
    cluster_mean -= cluster_mean.mean(axis=0) if clusters > 1 else cluster_mean
    spread = np.sqrt((cluster_mean**2).mean()) or 1.0
    cluster_mean *= config.std("cluster") / np.sqrt(dims) / spread
    cluster = rng.integers(clusters, size=number)
    taste = cluster_mean[cluster] + rng.normal(size=(number, dims)) * config.std("taste") / np.sqrt(dims)
    bias = rng.normal(0.0, config.std("user_bias"), number)

    tells = config.user_feature_information
    prior = np.full((number, clusters), -np.log(clusters))
    columns = {"user_id": _ids("u", number)}
    for name, values in (("region", _REGIONS), ("age_group", _AGES)):
        typical = rng.permutation(np.arange(clusters) % values)
        value = np.where(rng.random(number) < tells, typical[cluster], rng.integers(values, size=number))
        prior += np.log((1 - tells) / values + tells * (typical[None, :] == value[:, None]) + 1e-300)
        columns[name] = value
    center = rng.normal(0.0, 1.0, clusters) * tells
    income = center[cluster] + rng.normal(size=number)
    known = rng.random(number) >= 0.05
    prior += np.where(known[:, None], -0.5 * (income[:, None] - center[None, :]) ** 2, 0.0)
    prior = np.exp(prior - prior.max(axis=1, keepdims=True))
    columns["region"] = [f"region_{v}" for v in columns["region"]]
    columns["income"] = np.where(known, 30_000 * np.exp(0.3 * income), np.nan)
    return pd.DataFrame(columns), cluster_mean, taste, bias, prior / prior.sum(axis=1, keepdims=True)


def draw_items(config, rng):
    """Returns the table of items, their latent vectors and their biases."""
    number, dims = config.items, config.dimensions
    genre = rng.integers(_GENRES, size=number)
    vector = rng.normal(size=(_GENRES, dims))[genre] + rng.normal(size=(number, dims))
    # On a sphere, so that each share of the variance is what it says for every item.
    vector *= np.sqrt(dims) / np.linalg.norm(vector, axis=1, keepdims=True)
    price, other = rng.normal(size=(2, number))
    share = config.item_bias_in_content
    item_bias = config.std("item_bias") * (np.sqrt(share) * price + np.sqrt(1 - share) * other)
    embedding = vector @ rng.normal(size=(dims, _EMBEDDING)) / np.sqrt(dims) + 0.1 * rng.normal(
        size=(number, _EMBEDDING))
    strongest = np.argsort(-np.abs(vector), axis=1, kind="stable")[:, :min(_TAGS, dims)]
    tags = [[f"dim{d}_{'high' if vector[i, d] > 0 else 'low'}" for d in row] for i, row in enumerate(strongest)]
    for row, noise in zip(tags, rng.integers(30, size=number), strict=True):
        row.append(f"tag_{noise}")
    words = [[_WORDS[(2 * d + (vector[i, d] > 0)) % len(_WORDS)] for d in row] for i, row in enumerate(strongest)]
    ids = _ids("i", number)
    frame = pd.DataFrame({
        "item_id": ids, "title": [f"Item {n} ({w[0]})" for n, w in enumerate(words)],
        "genre": [f"genre_{g}" for g in genre], "tags": tags,
        "price": np.where(rng.random(number) < 0.03, np.nan, 20 * np.exp(0.25 * price)),
        "year": rng.integers(1980, 2021, size=number).astype(np.float32),
        "embedding": list(embedding.astype(np.float32)),
        "description": [f"a story of {' and '.join(w)}" for w in words]})
    return frame, vector, item_bias


def draw_choices(config, rng):
    """Draws who rates what and when: popularity alone decides, without replacement (Gumbel top-n)."""
    number = config.users
    least = min(_LEAST_RATINGS, config.items)
    mean = max(config.ratings_per_user - least, 0.0)
    count = least + np.round(rng.gamma(2.0, mean / 2.0 if mean else 1e-9, number)).astype(np.int64)
    count = np.minimum(count, config.items)
    popularity = -config.popularity_exponent * np.log(1.0 + rng.permutation(config.items))
    chosen = []
    for start in range(0, number, 2048):
        size = count[start:start + 2048]
        order = np.argsort(-(popularity + rng.gumbel(size=(len(size), config.items))), axis=1, kind="stable")
        # The largest keys are a draw without replacement; in the order of the keys the most popular come first,
        # so times are drawn apart from it.
        chosen.append(order[np.arange(config.items)[None, :] < size[:, None]])
    user_row = np.repeat(np.arange(number), count)
    arrival = rng.integers(YEAR, size=number)
    # Sorting the pauses within a user does not change their law; a shuffle of items makes time independent of them.
    pause = rng.exponential(6 * 3600, len(user_row))
    elapsed = np.cumsum(pause)
    elapsed -= np.repeat(elapsed[np.cumsum(count) - count], count)
    time = START + arrival[user_row] + elapsed.astype(np.int64)
    shuffle = np.lexsort((rng.random(len(user_row)), user_row))
    item_row = np.concatenate(chosen)[shuffle]
    return user_row, item_row, time
