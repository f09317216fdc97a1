"""MovieLens-1M as arrays, read apart from data preparation: training cell, items and the fixed test tasks."""

import types

import numpy as np
import pandas as pd

from tfmeta.data.feature import Feature
from tfmeta.data.feature_spec import FeatureSpec
from tfmeta.data.interactions import Interactions
from tfmeta.data.label import Label
from tfmeta.data.task_set import TaskSet

QUERY = 10


def load(shared) -> tuple[types.SimpleNamespace, TaskSet]:
    """Returns (what baselines are fitted on, test tasks); rows are ids."""
    folder = shared / "data" / "ml-1m"
    ratings = pd.read_parquet(folder / "ratings.parquet")
    table = np.zeros((6041, 3953), np.float32)
    table[ratings["user_id"], ratings["movie_id"]] = ratings["rating"]
    frame = pd.read_parquet(shared / "peers" / "ml-1m_tasks.parquet")
    tasks = _tasks(frame, table)
    train = table.copy()
    train[pd.read_parquet(folder / "melu_split_users.parquet").query("melu_cold")["user_id"]] = 0
    train[:, pd.read_parquet(folder / "melu_split_items.parquet").query("melu_cold")["movie_id"]] = 0
    warm = tasks.in_state("warm")
    train[np.repeat(warm.user_row, QUERY), warm.query_item.ravel()] = 0
    user, item = np.nonzero(train)
    interactions = Interactions(user.astype(np.int32), item.astype(np.int32), train[user, item],
                                np.zeros(len(user), np.int64))
    items, features = _items(folder, known=np.bincount(item, minlength=3953) > 0)
    label = interactions.label
    spec = FeatureSpec(label=Label("rating", "rating", 1, 5, 4, float(label.mean()), float(label.std())),
                       user_id=Feature("user", "categorical", "int64", vocabulary=()),
                       item_id=Feature("movie", "categorical", "int64", vocabulary=()), item_features=features)
    prepared = types.SimpleNamespace(train=interactions, items=items, feature_spec=spec,
                                     users=pd.DataFrame({"user_id": range(6041)}))
    return prepared, tasks


def _tasks(frame, table):
    items = frame["items"].to_list()
    length = np.array([len(i) for i in items]) - QUERY
    padded = np.full((len(items), QUERY + length.max()), -1, np.int32)
    padded[np.arange(padded.shape[1])[None, :] < (length + QUERY)[:, None]] = np.concatenate(items)
    user = frame["user_id"].to_numpy(np.int32)
    label = np.where(padded >= 0, table[user[:, None], padded], np.nan).astype(np.float32)
    return TaskSet(frame["state"].to_numpy(str), user, frame["split"].to_numpy(np.int32),
                   padded[:, QUERY:], label[:, QUERY:], length.astype(np.int32),
                   padded[:, :QUERY], label[:, :QUERY], np.full(len(items), QUERY, np.int32))


def _items(folder, *, known):
    movies = pd.read_csv(folder / "movies.dat", sep="::", engine="python", encoding="latin-1",
                         names=["movie_id", "title", "genres"]).set_index("movie_id").reindex(range(3953))
    extra = pd.read_parquet(folder / "movies_extra.parquet").set_index("movie_id").reindex(range(3953))
    columns = {
        "genres": movies["genres"].fillna("").str.split("|"), "rate": extra["rate"].fillna(""),
        "director": extra["director"].fillna("").str.split(r",\s*", regex=True),
        "actors": extra["actors"].fillna("").str.split(r",\s*", regex=True),
        "year": pd.to_numeric(extra["year"], errors="coerce").astype(np.float32)}
    features = []
    for name, least in (("genres", 1), ("director", 2), ("actors", 2)):
        count = columns[name][known].explode().value_counts()
        features.append(Feature(name, "multi_categorical", "string", 6,
                                tuple(sorted(v for v in count.index[count >= least] if v))))
    features.append(Feature("rate", "categorical", "string",
                            vocabulary=tuple(sorted(set(columns["rate"][known]) - {""}))))
    year = columns["year"][known]
    features.append(Feature("year", "numeric", "float32", mean=(float(year.mean()),), std=(float(year.std()),)))
    return pd.DataFrame(columns).reset_index(drop=True), tuple(features)
