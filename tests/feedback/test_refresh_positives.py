"""A refresh from a log of positives alone, such as visits: decided by lists out of the whole catalogue."""

import dataclasses
import datetime

import numpy as np
import pytest

from tfmeta.data.prepare import prepare
from tfmeta.data.raw_data import RawData
from tfmeta.data.split_config import SplitConfig
from tfmeta.data.synthetic.drifting import generate_drifting
from tfmeta.data.synthetic.synthetic_config import SyntheticConfig
from tfmeta.errors import ConfigError
from trainer.config import load_config
from trainer.feedback.event_log import EventLog
from trainer.feedback.refresh import refresh
from trainer.feedback.refresh_config import RefreshConfig
from trainer.loop import train
from trainer.run_directory import RunDirectory

FIRST = datetime.datetime(2021, 6, 1, tzinfo=datetime.UTC).timestamp()
TRAINING = {"seed": 1, "epochs": 4, "early_stopping": None, "tensorboard": {"enabled": False}, "learner": {},
            "model": {"name": "two_tower", "embedding_dim": 4, "vector_dim": 8, "user_units": [8], "item_units": [8]},
            "sampler": {"query_size": 3, "min_interactions": 5}, "optimizer": {"learning_rate": 0.02}}
SETTINGS = {"window_days": 120, "query_size": 3, "min_interactions": 5, "min_test_users": 10, "min_new_tasks": 10,
            "epochs": 4}


@pytest.fixture(scope="module")
def visits(tmp_path_factory):
    """(run, log): a run on what was visited before a day, and a log of what was visited afterwards."""
    folder = tmp_path_factory.mktemp("visits")
    data = generate_drifting(SyntheticConfig(users=320, items=60, ratings_per_user=25, seed=2), turn=90)
    rows = data.interactions[data.interactions["rating"] >= data.interactions["rating"].median()].assign(rating=1.0)
    before = rows[rows["time"] < FIRST]
    label = dataclasses.replace(data.schema.label, unit="click", minimum=0.0, maximum=1.0, threshold=1.0)
    raw = RawData.from_frames(before[["user_id", "item_id", "rating", "time"]],
                              schema=dataclasses.replace(data.schema, label=label),
                              users=data.users[data.users["user_id"].isin(before["user_id"])],
                              items=data.items[data.items["item_id"].isin(before["item_id"])])
    shares = dict.fromkeys(("cold_user_share", "cold_item_share", "validation_user_share", "validation_item_share",
                            "warm_test_user_share"), 0.0)
    prepared = prepare(raw=raw, out=str(folder / "data"), split=SplitConfig(query_size=3, min_interactions=5, **shares))
    train(config=load_config(TRAINING), data=prepared, run=str(folder / "run"), progress=False)
    log = EventLog.create(str(folder / "log"), prepared.feature_spec)
    log.update_table("user", data.users)
    log.update_table("item", data.items)
    log.ingest(rows[rows["time"] >= FIRST].rename(columns={"rating": "label"})[["user_id", "item_id", "label", "time"]],
               kind="outcome")
    return str(folder / "run"), log


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
