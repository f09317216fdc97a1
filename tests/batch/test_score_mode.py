"""Files in, scores out: against the model called user by user."""

import numpy as np
import pytest
from batch_cases import make_candidates, make_log, make_users, read_parts, run_job, support_inputs, user_inputs
from export_cases import BOUND


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    log, candidates, users = make_log(), make_candidates(), make_users()
    half = len(log) // 2
    log[:half].to_parquet(folder / "log-0.parquet")
    log[half:].to_parquet(folder / "log-1.parquet")
    candidates.to_parquet(folder / "candidates.parquet", row_group_size=20)
    users.to_parquet(folder / "users.parquet")
    return folder, log, candidates, users


def test_scores_are_those_of_direct_calls(files, model, servable, tmp_path):
    folder, log, candidates, users = files
    out = tmp_path / "out"
    summary = run_job(model, out, interactions=folder / "log-*.parquet", candidates=folder / "candidates.parquet",
                      users=folder / "users.parquet", shards=3, batch_users=4, max_candidates=5, workers=2)
    found = read_parts(out)
    assert summary["complete"] and summary["rows"] == len(candidates) == len(found)
    assert len(list(out.glob("part-*.parquet"))) == 3 and not (out / "_work").exists()
    for user, rows in found.groupby("user_id"):
        asked = candidates[candidates.user_id == user].movie_id.tolist()
        assert rows.movie_id.tolist() == asked
        wanted = servable.run("adapt_and_score", {
            **user_inputs(users, user), **support_inputs(log, user, BOUND),
            "query_movie_id": np.array([asked], object)})
        np.testing.assert_allclose(rows.score, wanted["scores"][0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(rows.base_score, wanted["base_scores"][0], rtol=1e-5, atol=1e-5)
    assert (found.status == 0).all() and (found.model_version == "1").all()
    unadapted = found[found.user_id % 7 == 0]
    assert len(unadapted) and (unadapted.score == unadapted.base_score).all()
    assert (found[found.user_id % 7 != 0].score != found[found.user_id % 7 != 0].base_score).any()
