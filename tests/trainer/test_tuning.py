"""Tuning: what a trial of a service reports, and the search here."""

import json

import pytest
import yaml
from tiny_prepared import SMALL, write_tiny

from tfmeta import cli
from tfmeta.errors import ConfigError
from trainer import task
from trainer.config import load_config
from trainer.run_directory import RunDirectory
from trainer.trial_report import TrialReport
from trainer.tuning_space import tuning_space, vertex_study

# Cheaper to trace than MAML.
QUICK = SMALL | {"learner": {"name": "ridge"}}
SEARCH = {"optimizer.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
          "learner.inner_steps": {"low": 1, "high": 2, "integer": True}, "sampler.meta_batch_size": [4, 8],
          "sampler.support_size": [[0, 5], None]}


def test_a_trial_takes_flags_and_reports_in_the_services_format(tiny_data, tmp_path):
    config, metrics = tmp_path / "config.yaml", tmp_path / "hypertune" / "output.metrics"
    config.write_text(json.dumps(QUICK))
    environ = {"CLOUD_ML_TRIAL_ID": "7", "CLOUD_ML_HP_METRIC_FILE": str(metrics)}
    arguments = ["--config", str(config), "--data", tiny_data, "--work-dir", str(tmp_path / "job"),
                 "--optimizer__learning_rate=0.05", "--sampler.meta_batch_size=4.0"]
    assert task.main(arguments, environ=environ) == 0
    run = RunDirectory.open(str(tmp_path / "job" / "run"))
    assert run.config.optimizer.learning_rate == 0.05 and run.config.sampler.meta_batch_size == 4
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    history = run.history()
    # One line an epoch, then the value of the weights that are kept, which is what the service goes by.
    assert [float(line["val_mae"]) for line in lines] == [*(r["val_mae"] for r in history), run.summary["best"]]
    assert [line["global_step"] for line in lines] == [*(str(r["step"]) for r in history), str(history[-1]["step"])]
    assert all(set(line) == {"timestamp", "trial", "val_mae", "global_step"} and line["trial"] == "7" for line in lines)
    assert all(isinstance(line["val_mae"], str) for line in lines)


def test_no_trial_no_report():
    assert TrialReport.read({"CLOUD_ML_HP_METRIC_FILE": "x"}, metric="val_mae") is None
    report = TrialReport.read({"CLOUD_ML_TRIAL_ID": "1"}, metric="val_mae")
    assert report.file == "/tmp/hypertune/output.metrics" and report.metric == "val_mae"
    report.epoch({"step": 3, "train_loss": 1.0})  # not validated: nothing to report
    with pytest.raises(ConfigError, match="'val_mae' is none"):
        report.epoch({"step": 3, "val_auc": 0.5})


def test_the_report_keeps_the_last_measurements(tmp_path):
    report = TrialReport(str(tmp_path / "metrics"), "1", "val_auc")
    for step in range(150):
        report.measure(step / 150, step=step)
    steps = [int(json.loads(line)["global_step"]) for line in (tmp_path / "metrics").read_text().splitlines()]
    assert steps == list(range(50, 150))


@pytest.mark.parametrize(("word", "message"), [
    ("--optimiser.learning_rate=1", "unrecognized argument: --optimiser"), ("--epochs", "unrecognized argument"),
    ("epochs=3", "unrecognized argument")])
def test_other_words_are_refused(word, message, capsys):
    with pytest.raises(SystemExit) as stop:
        task.main(["--work-dir", "w", word], environ={})
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_trial_without_validation_tasks_is_one_line(tmp_path, capsys):
    data = write_tiny(tmp_path / "prepared", validation=False)
    assert task.main(["--data", data, "--work-dir", str(tmp_path / "job")], environ={"CLOUD_ML_TRIAL_ID": "1"}) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "A trial requires validation tasks" in error


def test_tune_chooses_on_validation_and_goes_on(tiny_data, tmp_path, capsys):
    pytest.importorskip("optuna")
    config, space, out = tmp_path / "config.yaml", tmp_path / "space.yaml", tmp_path / "out"
    config.write_text(json.dumps(QUICK | {"epochs": 1}))
    space.write_text(yaml.safe_dump({"optimizer.learning_rate": SEARCH["optimizer.learning_rate"]}))
    arguments = ["tune", "--data", tiny_data, "--out", str(out), "--config", str(config), "--space", str(space),
                 "--json"]
    assert cli.main([*arguments, "--budget", "1"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert [t["params"] for t in first["trials"]] == [{"optimizer.learning_rate": 0.02}]  # the configuration's own
    assert cli.main([*arguments, "--budget", "2"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert second["trials"][:1] == first["trials"] and [t["number"] for t in second["trials"]] == [0, 1]
    assert second["value"] == min(t["value"] for t in second["trials"])
    best = load_config(second["config"])
    assert best.optimizer.learning_rate == second["params"]["optimizer.learning_rate"]


def test_the_space_of_a_service():
    study = vertex_study(tuning_space(load_config(SMALL), search=SEARCH), metric="val_mae")
    assert study["metrics"] == [{"metricId": "val_mae", "goal": "MINIMIZE"}]
    by_name = {p.pop("parameterId"): p for p in study["parameters"]}
    assert by_name == {
        "optimizer__learning_rate": {"scaleType": "UNIT_LOG_SCALE",
                                     "doubleValueSpec": {"minValue": 0.001, "maxValue": 0.1}},
        "learner__inner_steps": {"scaleType": "UNIT_LINEAR_SCALE",
                                 "integerValueSpec": {"minValue": "1", "maxValue": "2"}},
        "sampler__meta_batch_size": {"discreteValueSpec": {"values": [4.0, 8.0]}},
        "sampler__support_size": {"categoricalValueSpec": {"values": ["[0, 5]", "null"]}}}
    assert vertex_study(tuning_space(load_config(SMALL)), metric="val_auc")["metrics"][0]["goal"] == "MAXIMIZE"


def test_what_a_service_hands_over_is_what_the_space_says():
    study = vertex_study(tuning_space(load_config(SMALL), search=SEARCH), metric="val_mae")
    values = next(p for p in study["parameters"] if "categoricalValueSpec" in p)["categoricalValueSpec"]["values"]
    for value, choice in zip(values, SEARCH["sampler.support_size"], strict=True):
        (override,) = task._trial_settings(task._parser(), [f"--sampler__support_size={value}"])
        assert load_config(SMALL, overrides=[override]).sampler.support_size == (choice and tuple(choice))


@pytest.mark.parametrize(("search", "message"), [
    ({"optimizer.learning_rate": {"low": -1, "high": 1}}, "'optimizer.learning_rate'.*a positive number"),
    ({"optimiser.learning_rate": [1]}, "Did you mean 'optimizer'"),
    ({"epochs": {"low": 5, "high": 2}}, "low < high")])
def test_spaces_out_of_range(search, message):
    with pytest.raises(ConfigError, match=message):
        tuning_space(load_config(SMALL), search=search)
