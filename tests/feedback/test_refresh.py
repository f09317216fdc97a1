"""A refresh from the event log to the decision, on a small stream of items that turn into other ones."""

import dataclasses
import datetime
import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from refresh_cases import FIRST, first_run, stream

from tfmeta import cli
from tfmeta.data.prepared_data import PreparedData
from tfmeta.errors import DataError, RunError
from trainer.feedback.event_log import EventLog
from trainer.feedback.refresh_config import RefreshConfig
from trainer.feedback.refresh_data import interactions_of, refresh_data
from trainer.feedback.refresh_start import RefreshStart
from trainer.run_directory import RunDirectory

TRAINING = {
    "seed": 1, "epochs": 6, "early_stopping": None, "tensorboard": {"enabled": False},
    "model": {"name": "two_tower", "embedding_dim": 4, "vector_dim": 8, "user_units": [8], "item_units": [8]},
    "sampler": {"query_size": 5, "min_interactions": 8}, "optimizer": {"learning_rate": 0.02}}
SETTINGS = RefreshConfig(window_days=120, query_size=5, min_interactions=8, min_test_users=10, min_new_tasks=20,
                         epochs=6, gate=False)


@dataclasses.dataclass
class World:
    """A prepared directory, a run on it and a log of what came afterwards."""

    folder: pathlib.Path
    run: str
    log: EventLog
    events: pd.DataFrame

    def refresh(self, out, **options):
        from trainer.feedback.refresh import refresh

        return refresh(log=self.log, run=self.run, out=str(out), **{"config": SETTINGS, **options})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    folder, data = tmp_path_factory.mktemp("refresh"), stream()
    # Two items appear after the first run.
    rows = data.interactions
    rows = rows[(rows["time"] >= FIRST) | ~rows["item_id"].isin(["i00", "i01"])]
    return World(folder, *first_run(folder, data, rows=rows, training=TRAINING))


@pytest.fixture(scope="module")
def refreshed(world):
    """(report, directory) of a refresh."""
    out = world.folder / "refreshed"
    return world.refresh(out), out


def test_the_newest_users_are_tested_on_and_never_trained_on(world, refreshed):
    report, out = refreshed
    data, previous = PreparedData(str(out / "data")), PreparedData(str(world.folder / "data"))
    train = interactions_of(data)
    tested = set(data.users["user_id"].to_numpy()[data.tasks("test").user_row])
    assert len(tested) == report["data"]["test_users"] >= SETTINGS.min_test_users
    assert not tested & set(train["user_id"])
    assert not tested & set(data.feature_spec.user_id.vocabulary)
    assert not tested & set(interactions_of(previous)["user_id"])
    # They arrived after everybody new who is trained on.
    arrival = world.events.groupby("user_id")["time"].min()
    new = set(train["user_id"]) - set(interactions_of(previous)["user_id"])
    assert new
    assert arrival[list(new)].max() < arrival[list(tested)].min()
    # Their last interactions are asked about, with all earlier ones as the support.
    tasks = data.tasks("test")
    row = int(np.flatnonzero(data.users["user_id"] == sorted(tested)[0])[0])
    at = int(np.flatnonzero(tasks.user_row == row)[0])
    own = world.events[world.events["user_id"] == sorted(tested)[0]].sort_values("time")["item_id"].tolist()
    asked = data.items["item_id"].to_numpy()[tasks.query_item[at]].tolist()
    assert asked == own[-5:]


def test_training_has_the_window_and_all_old_rows(world, refreshed):
    report, out = refreshed
    key = ["user_id", "item_id"]
    train = interactions_of(PreparedData(str(out / "data")))
    old = interactions_of(PreparedData(str(world.folder / "data")))
    assert set(map(tuple, old[key].to_numpy())) <= set(map(tuple, train[key].to_numpy()))
    assert not train.duplicated(key).any()
    since = datetime.datetime.fromisoformat(report["window"]["start"]).replace(tzinfo=datetime.UTC).timestamp()
    active = set(train.loc[train["time"] >= since, "user_id"])
    assert len(active) == report["data"]["new_tasks"]
    assert train["user_id"].nunique() == report["data"]["new_tasks"] + report["data"]["old_tasks"]
    assert report["data"]["new_items"] == 2


def test_a_refresh_beats_the_model_that_items_have_left(refreshed):
    report, out = refreshed
    assert report["decision"] == "refreshed", report["reasons"]
    assert report["metric"] == "mae"
    assert report["evaluation"]["refreshed"]["value"] < report["evaluation"]["before"]["value"]
    assert report["comparison"]["improvement"] == pytest.approx(
        report["evaluation"]["before"]["value"] - report["evaluation"]["refreshed"]["value"], abs=1e-6)
    assert json.loads((out / "refresh.json").read_text()) == report
    assert json.loads((out / "drift.json").read_text())["verdict"] == report["drift"]
    assert "<html" in (out / "drift.html").read_text().lower()


def test_again_it_does_nothing_and_says_the_same(world, refreshed, monkeypatch):
    import trainer.loop

    report, out = refreshed
    monkeypatch.setattr(trainer.loop, "train", lambda **options: pytest.fail("trains again"))
    assert world.refresh(out) == report


def test_before_a_step_the_new_model_is_the_old_one(world, refreshed):
    """New values start where the old model would have looked them up."""
    from tfmeta.data.feature_tables import FeatureTables
    from trainer.evaluation.recommender_scorer import RecommenderScorer
    from trainer.run_directory import build_from_config

    data, last = PreparedData(str(refreshed[1] / "data")), RunDirectory.open(world.run)
    grown = build_from_config(last.config, data.feature_spec)
    fresh = {v.path: v.numpy() for v in grown.variables}
    RefreshStart(last, 0, 0.3).initialise(grown)
    tables = {v.path: v for v in grown.variables if "item_id_embedding" in v.path}
    (table,) = tables.values()
    assert table.shape[0] == 60
    np.testing.assert_array_equal(table.numpy()[58:], 0.0)
    assert not np.allclose(table.numpy()[:58], fresh[table.path][:58])
    scores = [RecommenderScorer(model, tables=FeatureTables.from_prepared(data, feature_spec=spec)).score_both(
        data.tasks("test")) for model, spec in ((last.recommender(), last.feature_spec), (grown, data.feature_spec))]
    for old, new in zip(*scores, strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_another_model_cannot_be_taken_over(world):
    from trainer.feedback.refresh_weights import take_over
    from trainer.run_directory import build_from_config

    last = RunDirectory.open(world.run)
    config = dataclasses.replace(last.config, model={**last.config.model, "use_item_id": False})
    with pytest.raises(RunError, match="item_id_embedding"):
        take_over(build_from_config(config, last.feature_spec), before=last.recommender())


def test_the_next_refresh_trains_on_whom_this_one_held_out(world, refreshed):
    data = PreparedData(str(refreshed[1] / "data"))
    held_out = set(data.users["user_id"].to_numpy()[data.tasks("test").user_row])
    later = int(world.events["time"].max()) + 1
    new = pd.DataFrame([(f"n{user}", f"i{item:02d}", 3.0, later + 100 * user + item)
                        for user in range(60) for item in range(10)], columns=["user_id", "item_id", "label", "time"])
    found = refresh_data(new, previous=data, feature_spec=data.feature_spec, config=SETTINGS, since=later,
                         out=str(world.folder / "next"))
    rows = interactions_of(found.prepared)
    assert held_out <= set(rows["user_id"])
    mine, theirs = (frame[frame["user_id"].isin(held_out)].sort_values(["user_id", "time"], kind="stable")
                    for frame in (rows, world.events))
    assert mine[["user_id", "item_id"]].to_numpy().tolist() == theirs[["user_id", "item_id"]].to_numpy().tolist()
    assert (mine["time"] < later).all(), "they are old tasks now"
    assert found.new_tasks == 48
    assert found.test_users == 12


def test_learning_rates_of_refreshes_do_not_multiply(world, refreshed):
    first = RunDirectory.open(world.run)
    half = RefreshStart(RunDirectory.open(str(refreshed[1] / "run")), 0, 0.3, 0.5)
    assert half.train_config(epochs=2, seed=0).optimizer.learning_rate == first.config.optimizer.learning_rate / 2
    assert RunDirectory.open(str(refreshed[1] / "run")).summary["start"]["run"] == first.summary["hash"]


@pytest.mark.slow
def test_what_is_no_better_is_refused(world, refreshed):
    """Everything but the last decision is there already."""
    import shutil

    out = world.folder / "refused"
    shutil.copytree(refreshed[1], out)
    config = dataclasses.replace(SETTINGS, epochs=1, min_improvement=3.0)
    report = world.refresh(out, config=config, model_base=str(world.folder / "models"))
    assert report["decision"] == "refused"
    assert any("more than 3 is required" in reason for reason in report["reasons"])
    assert report["version"] is None
    assert not (world.folder / "models").exists()
    # A directory of other inputs was cleaned away, not gone on with.
    assert RunDirectory.open(str(out / "run")).config.epochs == 1


@pytest.mark.slow
def test_cut_off_anywhere_it_ends_the_same(world, refreshed, monkeypatch):
    """Whatever step is cut off at its beginning or end, the next call goes on, and nothing is trained twice."""
    from trainer.feedback import refresh as module
    from trainer.feedback.refresh_steps import RefreshSteps

    out, write, records = world.folder / "cut", RefreshSteps._write, []

    def cut(self, path, record):
        """Every other write of a record is the last thing that the process does."""
        if path not in records:
            records.append(path)
            raise KeyboardInterrupt
        records.remove(path)
        write(self, path, record)

    monkeypatch.setattr(RefreshSteps, "_write", cut)
    times = 0
    while True:
        try:
            report = module.refresh(log=world.log, run=world.run, out=str(out), config=SETTINGS)
            break
        except KeyboardInterrupt:
            times += 1
            assert times < 30
    assert times >= 10, "two records a step"
    assert report["training"]["hash"] == refreshed[0]["training"]["hash"]
    same = ("decision", "reasons", "data", "evaluation", "comparison", "drift")
    assert {k: report[k] for k in same} == {k: refreshed[0][k] for k in same}


@pytest.mark.slow
def test_killed_while_it_trains_it_ends_with_the_same_bits(world, refreshed):
    import signal
    import subprocess
    import sys
    import time

    out = world.folder / "killed"
    settings = [f"{name}={getattr(SETTINGS, name)}" for name in (
        "window_days", "query_size", "min_interactions", "min_test_users", "min_new_tasks", "epochs", "gate")]
    command = ["refresh", "--log", world.log.path, "--from", world.run, "--out", str(out)]
    for setting in settings:
        command += ["--set", setting.lower()]
    process = subprocess.Popen([sys.executable, "-c", "import sys; from tfmeta.cli import main; sys.exit(main())",
                                *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 300
        while not (out / "run" / "checkpoints" / "checkpoint").exists():
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert not (out / "run" / "run.json").exists()
    assert not (out / "refresh.json").exists()
    report = world.refresh(out)
    assert report["training"]["hash"] == refreshed[0]["training"]["hash"]
    assert report["comparison"] == refreshed[0]["comparison"]


def test_a_model_that_holds_is_left_alone(world, refreshed):
    """The same run, with what it does on the newest users as its own evaluation."""
    import shutil

    from trainer.feedback.refresh import refresh

    out, run = world.folder / "held", world.folder / "held-run"
    shutil.copytree(refreshed[1], out)
    shutil.copytree(world.run, run)
    shutil.copy(out / "before.json", run / "evaluation.json")
    report = refresh(log=world.log, run=str(run), out=str(out), config=SETTINGS)
    assert (report["decision"], report["training"]) == ("not_needed", None)
    assert report["reasons"][0] == "drift is none"
    assert len(report["reasons"]) == 3
    # A better evaluation than that is no longer held.
    rows = json.loads((run / "evaluation.json").read_text())
    rows["environment"]["date"] = "2021-01-01T00:00:00+00:00"
    for row in rows["rows"]:
        row["value"] = row["value"] and row["value"] * 0.9
    (run / "evaluation.json").write_text(json.dumps(rows))
    report = refresh(log=world.log, run=str(run), out=str(out), config=SETTINGS)
    assert report["decision"] == "refreshed"
    assert any("worse by more than 5%" in reason for reason in report["reasons"])
    points = json.loads((out / "drift.json").read_text())["gain"]["points"]
    assert points[0]["period"] == rows["environment"]["date"]
    assert len(points) == 2, "the gain of the run's own evaluation, and that on the newest users"


def test_a_run_that_was_done_but_not_recorded_is_not_trained_again(world, refreshed):
    import shutil

    out = world.folder / "unrecorded"
    shutil.copytree(refreshed[1], out)
    record = json.loads((out / "steps" / "train.json").read_text())
    (out / "steps" / "train.json").write_text(json.dumps({**record, "result": None}))
    written = (out / "run" / "run.json").stat().st_mtime_ns
    report = world.refresh(out)
    assert (out / "run" / "run.json").stat().st_mtime_ns == written
    assert report["training"] == refreshed[0]["training"]
    assert report["evaluation"] == refreshed[0]["evaluation"]


def test_dry_run_writes_nothing(world):
    out = world.folder / "dry"
    report = world.refresh(out, dry_run=True)
    assert report["decision"] == "would_refresh"
    assert report["training"] is None
    assert not out.exists()


def test_too_few_new_users_are_one_clear_line(world):
    with pytest.raises(DataError, match="requires 400 new users with 8 interactions to test on, received"):
        world.refresh(world.folder / "few", config=dataclasses.replace(SETTINGS, min_test_users=400))
    with pytest.raises(DataError, match="requires 4000 users to train on"):
        world.refresh(world.folder / "few", config=dataclasses.replace(SETTINGS, min_new_tasks=4000))


def test_command(world, refreshed, capsys):
    report, out = refreshed
    options = ["refresh", "--log", world.log.path, "--from", world.run, "--out", str(out)]
    for name in ("window_days", "query_size", "min_interactions", "min_test_users", "min_new_tasks", "epochs"):
        options += ["--set", f"{name}={getattr(SETTINGS, name)}"]
    options += ["--set", "gate=false"]
    assert cli.main([*options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report
    assert cli.main(options) == 0
    assert capsys.readouterr().out.startswith("Refreshed: ")
    for wrong in (["--set", "window=3"], ["--promote", "canary"], ["--config", "x"], ["--set", "epochs=0"]):
        assert cli.main([*options, *wrong]) == 2
        error = capsys.readouterr().err
        assert error.startswith("tfmeta: ")
        assert error.count("\n") == 1
    assert cli.main(["refresh", "--print-settings", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["replay_share"] == RefreshConfig().replay_share


@pytest.mark.slow
def test_all_the_way_to_the_canary_and_stable(world, refreshed, capsys):
    """Exports two versions, each verified and compatible, and labels them; cut off after the export too."""
    import shutil

    from export.run_export import export_run
    from tfmeta.serving.model_config_file import read_model_config_file
    from trainer.feedback.refresh_steps import RefreshSteps

    base, config = world.folder / "movies", world.folder / "models.config"
    export_run(world.run, model_base=str(base))
    config.write_text(f'model_config_list {{ config {{ name: "movies" base_path: "{base}" model_platform: "tensorflow" '
                      'model_version_policy { specific { versions: 1 } } '
                      'version_labels { key: "stable" value: 1 } } }')
    out = world.folder / "all"
    shutil.copytree(refreshed[1], out)
    write = RefreshSteps._write

    def cut(self, path, record):
        if path.endswith("export.json") and record["result"]:
            raise KeyboardInterrupt
        write(self, path, record)

    options = {"model_base": str(base), "models_config": str(config), "name": "movies", "promote_to": "canary"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RefreshSteps, "_write", cut)
        world.refresh(out, **options)
    report = world.refresh(out, **options)
    assert report["version"] == str(base / "2")
    assert sorted(p.name for p in base.iterdir()) == ["1", "2"], "the version that was exported is not exported twice"
    (model,) = read_model_config_file(str(config))
    assert model.labels == {"stable": 1, "canary": 2}
    assert world.refresh(out, **options)["promotion"]["action"] == "unchanged"
    promote = ["promote", "--config", str(config), "--model", "movies", "--version", "2", "--label", "stable"]
    assert cli.main(promote) == 0
    assert read_model_config_file(str(config))[0].labels == {"stable": 2, "canary": 2, "previous": 1}
    (base / "2" / "saved_model.pb").write_bytes(b"damaged")
    assert cli.main([*promote[:-1], "canary", "--version", "2"]) == 2
    assert cli.main(["promote", "--config", str(config), "--model", "movies", "--roll-back"]) == 0
    assert read_model_config_file(str(config))[0].labels == {"stable": 1, "canary": 1}


@pytest.mark.slow
def test_the_gate_keeps_a_model_back(world, refreshed):
    import shutil

    out = world.folder / "gated"
    shutil.copytree(refreshed[1], out)
    evaluation = json.loads((out / "run" / "evaluation.json").read_text())
    report = world.refresh(out, config=dataclasses.replace(SETTINGS, gate=True))
    assert {r["model"] for r in evaluation["rows"]} >= {"refreshed", "damped_bias"}
    judged = [r for r in report["reasons"] if r.startswith("the gate: ")]
    assert (report["decision"] == "refused") is bool(judged)
