"""Interactions, candidates and users, and what a direct call of the model says of them."""

import numpy as np
import pandas as pd

from tfmeta.batch.batch_config import BatchConfig
from tfmeta.batch.batch_job import BatchJob

NUM_ITEMS = 12


def make_log(users: int = 30, *, seed: int = 0) -> pd.DataFrame:
    """Users 0, 7, 14, ... have no interactions; the rows are in no order."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 20, users)
    counts[::7] = 0
    owner = np.repeat(np.arange(users), counts)
    frame = pd.DataFrame({"user_id": owner, "movie_id": [f"m{i}" for i in rng.integers(0, NUM_ITEMS + 2, len(owner))],
                          "rating": rng.integers(1, 6, len(owner)).astype(float),
                          "timestamp": rng.integers(0, 50, len(owner))})
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def make_candidates(users: int = 30, *, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(users), rng.integers(1, 9, users))
    frame = pd.DataFrame({"user_id": owner, "movie_id": [f"m{i}" for i in rng.integers(0, NUM_ITEMS, len(owner))]})
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def make_users(users: int = 30, *, seed: int = 2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user_id": np.arange(users), "zip-code": [str(z) for z in rng.integers(0, 4, users)],
                          "age": rng.normal(35, 8, users)})
    frame.loc[3, "age"] = np.nan
    return frame


def latest(log: pd.DataFrame, user: int, bound: int) -> pd.DataFrame:
    """The last interactions of a user, oldest first, the plain way."""
    return log[log.user_id == user].sort_values("timestamp", kind="stable").tail(bound)


def user_inputs(users: pd.DataFrame, user: int) -> dict[str, np.ndarray]:
    row = users[users.user_id == user].iloc[0]
    return {"user_zip_code": np.array([row["zip-code"]], object), "user_age": np.array([row["age"]], np.float32)}


def support_inputs(log: pd.DataFrame, user: int, bound: int) -> dict[str, np.ndarray]:
    rows = latest(log, user, bound)
    ids, labels = (rows.movie_id.tolist(), rows.rating.tolist()) if len(rows) else ([""], [0.0])
    return {"support_movie_id": np.array([ids], object), "support_label": np.array([labels], np.float32),
            "support_length": np.array([len(rows)], np.int32)}


def run_job(model: str, out, *, beam_options=(), workers=1, **settings) -> dict:
    settings = {k: (str(v),) if k in ("interactions", "candidates", "users", "items") and not isinstance(v, tuple)
                else v for k, v in settings.items()}
    return BatchJob(BatchConfig(model=model, out=str(out), **settings), beam_options=beam_options,
                    workers=workers).run()


def read_parts(out) -> pd.DataFrame:
    import pyarrow.parquet as pq

    paths = sorted(out.glob("part-*.parquet"))
    return pd.concat([pq.read_table(p).to_pandas() for p in paths], ignore_index=True)
