"""A refresh from a log of positives alone, such as visits: decided by lists out of the whole catalogue."""

import dataclasses

import numpy as np
import pytest
from refresh_cases import first_run, stream

from tfmeta.errors import ConfigError
from trainer.feedback.refresh import refresh
from trainer.feedback.refresh_config import RefreshConfig
from trainer.run_directory import RunDirectory

TRAINING = {"seed": 1, "epochs": 4, "early_stopping": None, "tensorboard": {"enabled": False}, "learner": {},
            "model": {"name": "two_tower", "embedding_dim": 4, "vector_dim": 8, "user_units": [8], "item_units": [8]},
            "sampler": {"query_size": 3, "min_interactions": 5}, "optimizer": {"learning_rate": 0.02}}
SETTINGS = {"window_days": 120, "query_size": 3, "min_interactions": 5, "min_test_users": 10, "min_new_tasks": 10,
            "epochs": 4}


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """(run, log): a run on what was visited before a day, and a log of what was visited afterwards."""
    data = stream()
    rows = data.interactions[data.interactions["rating"] >= data.interactions["rating"].median()].assign(rating=1.0)
    label = dataclasses.replace(data.schema.label, unit="click", minimum=0.0, maximum=1.0, threshold=1.0)
    run, log, _ = first_run(tmp_path_factory.mktemp("visits"), data, rows=rows, training=TRAINING, label=label)
    return run, log


def test_the_catalogue_decides(visits, tmp_path):
    run, log = visits
    report = refresh(log=log, run=run, out=str(tmp_path / "out"), config=RefreshConfig(**SETTINGS), force=True)
    assert report["metric"] == report["comparison"]["metric"] == "ndcg@20"
    before, after = (report["evaluation"][name] for name in ("before", "refreshed"))
    assert 0 < before["value"] < 1 and before["users"] == after["users"] >= 10
    difference = after["value"] - before["value"]
    assert report["comparison"]["improvement"] == pytest.approx(difference, abs=1e-6)
    kept_back = [reason for reason in report["reasons"] if reason.startswith("the gate: ")]
    assert all("NDCG@20" in reason for reason in kept_back)
    assert report["decision"] == ("refreshed" if difference > 0 and not kept_back else "refused")
    assert RunDirectory.open(report["run"]).config.learner["outer_loss"] == "softmax"
    assert np.isfinite(report["comparison"]["p_value"])


def test_a_metric_that_positives_leave_undefined_is_refused_before_training(visits, tmp_path):
    run, log = visits
    for metric in ("auc", "ndcg@5"):
        with pytest.raises(ConfigError, match=f"hold positives only, of which {metric} says nothing"):
            refresh(log=log, run=run, out=str(tmp_path / metric), force=True,
                    config=RefreshConfig(**SETTINGS, metric=metric))
        assert not (tmp_path / metric / "run").exists()
