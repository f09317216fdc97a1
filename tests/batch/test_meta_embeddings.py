"""States of one model as a user feature of another, which then needs nothing but `score`."""

import dataclasses

import numpy as np
import pytest
from batch_cases import make_candidates, make_log, make_users, read_parts, run_job
from export_cases import make_items, make_spec

from export.exporter import export_model
from export.items.catalogue_items import CatalogueItems
from tfmeta.data.feature import Feature
from tfmeta.models.recommender import build_recommender


@pytest.fixture(scope="module")
def states(model, tmp_path_factory):
    """What `--mode embed` wrote."""
    folder = tmp_path_factory.mktemp("states")
    make_log().to_parquet(folder / "log.parquet")
    make_users().to_parquet(folder / "users.parquet")
    run_job(model, folder / "out", mode="embed", interactions=folder / "log.parquet", users=folder / "users.parquet",
            shards=1)
    return read_parts(folder / "out")


def test_a_model_that_only_scores_reads_the_states_of_another(states, tmp_path):
    width = len(states.user_state.iloc[0])
    spec = dataclasses.replace(make_spec(), user_features=(Feature(
        "meta_embedding", "dense_vector", "float32", length=width, mean=(0.0,) * width, std=(1.0,) * width),))
    plain = build_recommender(spec, learner={"name": "joint"},
                              model={"name": "two_tower", "vector_dim": 4, "user_units": [5], "item_units": [5]})
    export_model(plain, items=make_items(), model_base=str(tmp_path / "plain"), check=False)

    states.rename(columns={"user_state": "meta_embedding"})[["user_id", "meta_embedding"]].to_parquet(
        tmp_path / "users.parquet")
    candidates = make_candidates()
    candidates.to_parquet(tmp_path / "candidates.parquet")
    run_job(str(tmp_path / "plain"), tmp_path / "out", candidates=tmp_path / "candidates.parquet",
            users=tmp_path / "users.parquet", shards=1)
    found = read_parts(tmp_path / "out")
    assert len(found) == len(candidates) and np.isfinite(found.score).all()

    # By hand: the tower reads the vector that the first job wrote.
    assert list(make_items()["item_id"]) == [f"m{i}" for i in range(12)]
    known = found.drop_duplicates("user_id")
    rows = known["movie_id"].str.removeprefix("m").astype(int)
    vectors = states.set_index("user_id")["user_state"].loc[known["user_id"]]
    user = plain.encode_user({"meta_embedding": np.stack(list(vectors)).astype(np.float32)}, tasks=len(known))
    wanted = plain.score(user, np.asarray(CatalogueItems(plain, make_items()).table)[rows][:, None])
    np.testing.assert_allclose(known["score"], np.asarray(wanted)[:, 0], rtol=1e-4, atol=1e-5)
    assert known["score"].nunique() > 1
