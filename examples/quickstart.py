"""From a data frame to an adapted score for a person the model has never seen.

Run it with `python examples/quickstart.py`; it takes well under a minute on two cores. The ratings are made up here:
every user likes some genres and dislikes others.
"""

import tempfile

import numpy as np
import pandas as pd

from tfmeta.data.feature_schema import FeatureSchema
from tfmeta.data.feature_tables import FeatureTables
from tfmeta.data.prepare import prepare
from tfmeta.data.prepared_data import PreparedData
from tfmeta.data.raw_data import RawData
from tfmeta.data.schema import Schema
from tfmeta.data.split_config import SplitConfig
from tfmeta.models.recommender import Recommender
from trainer.config import load_config
from trainer.loop import train
from trainer.run_directory import RunDirectory

GENRES = ("comedy", "drama", "horror", "western")
NUM_USERS, NUM_FILMS, RATINGS_PER_USER = 400, 80, 25


def make_frames(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns ratings (`user_id, film, rating`) and films (`film, genre, name`)."""
    rng = np.random.default_rng(seed)
    genre = rng.integers(len(GENRES), size=NUM_FILMS)
    films = pd.DataFrame({"film": [f"f{i:02d}" for i in range(NUM_FILMS)],
                          "genre": [GENRES[g] for g in genre],
                          "name": [f"{GENRES[g]} no. {i}" for i, g in enumerate(genre)]})
    taste = rng.normal(size=(NUM_USERS, len(GENRES)))
    film = np.argsort(rng.random((NUM_USERS, NUM_FILMS)), axis=1)[:, :RATINGS_PER_USER]
    user = np.repeat(np.arange(NUM_USERS), RATINGS_PER_USER)
    film = film.ravel()
    rating = 3 + taste[user, genre[film]] + 0.4 * rng.normal(size=len(user))
    ratings = pd.DataFrame({"user_id": [f"u{u}" for u in user], "film": films["film"].to_numpy()[film],
                            "rating": np.clip(np.round(rating), 1, 5)})
    return ratings, films


def train_on(ratings: pd.DataFrame, films: pd.DataFrame, *, out: str) -> RunDirectory:
    """Prepares the frames and meta-trains a small model below the directory `out`."""
    schema = Schema(item_id="film", title="name", item_features=(FeatureSchema("genre", "categorical"),))
    raw = RawData.from_frames(ratings, schema=schema, items=films)
    split = SplitConfig(query_size=4, min_interactions=8, num_splits=1)
    data = prepare(raw=raw, out=f"{out}/prepared", split=split)
    config = load_config("quick", overrides=["epochs=20"])
    train(config=config, data=data, run=f"{out}/run", progress=False)
    return RunDirectory.open(f"{out}/run")


def score_for_new_user(run: RunDirectory, *, liked: list[str], disliked: list[str],
                       candidates: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Scores candidate films (ids) for somebody who gave 5 to some films and 1 to others.

    Returns:
      Adapted and unadapted scores, both `[len(candidates)]`, in ratings.
    """
    data = PreparedData(run.data_path)
    tables, model = FeatureTables.from_prepared(data), run.recommender()
    row = {film: i for i, film in enumerate(data.items["item_id"])}

    def encode(films: list[str]):  # [1, N, Di]: a batch of one task.
        return model.encode_item(tables.item(np.array([[row[f] for f in films]], np.int32)))

    scores = Recommender.adapt_and_score(
        model, model.encode_user({}, tasks=1),
        support_item=encode([*liked, *disliked]),
        support_label=np.array([[5.0] * len(liked) + [1.0] * len(disliked)], np.float32),
        support_length=np.array([len(liked) + len(disliked)], np.int32),
        query_item=encode(candidates))
    return tuple(np.asarray(s)[0] for s in scores)


def main() -> pd.DataFrame:
    """Trains, adapts to one new user and returns the films with their scores, best first."""
    ratings, films = make_frames()
    with tempfile.TemporaryDirectory() as out:
        run = train_on(ratings, films, out=out)
        by_genre = films.groupby("genre")["film"].apply(list)
        support = {"liked": by_genre["western"][:3], "disliked": by_genre["horror"][:3]}
        rest = films[~films["film"].isin([f for part in support.values() for f in part])]
        adapted, unadapted = score_for_new_user(run, candidates=list(rest["film"]), **support)
    table = rest.assign(unadapted=unadapted, adapted=adapted).sort_values("adapted", ascending=False)
    print("A new user gave three westerns 5 stars and three horror films 1 star.")
    print(table.groupby("genre")[["unadapted", "adapted"]].mean().round(2))
    print(table.head(5).round(2).to_string(index=False))
    return table


if __name__ == "__main__":
    main()
