import json

import pytest
from tiny_prepared import SMALL

from tfmeta.cli import main
from trainer.run_directory import RunDirectory


@pytest.fixture
def settings(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(SMALL))  # JSON is YAML
    return str(path)


def test_train_prints_one_json_object(settings, tiny_data, tmp_path, capfd):
    run = tmp_path / "run"
    code = main(["train", "--config", settings, "--data", tiny_data, "--out", str(run), "--set", "epochs=1", "--json"])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    assert result["hash"] == RunDirectory.open(str(run)).summary["hash"]
    assert "epoch 1/1" in captured.err and "val_mae" in captured.err  # the progress bar
    assert main(["train", "--config", settings, "--data", tiny_data, "--out", str(run), "--set", "epochs=1",
                 "--resume"]) == 0
    assert result["hash"] in capfd.readouterr().out


@pytest.mark.parametrize(("arguments", "message"), [
    (["--out", "x"], "requires --data"),
    (["--data", "nowhere", "--out", "x"], "not a prepared directory"),
    (["--set", "epoch=1"], "Did you mean 'epochs'"),
    (["--config", "absent.yaml"], "absent.yaml"),
])
def test_mistakes_are_one_line_and_exit_code_2(arguments, message, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    error = capfd.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("changes", "message"), [
    ("learner.scope=hed", "'learner.scope' for model 'two_tower' requires one of user_vector"),
    ("learner.inner_loss=binary_cross_entropy", "binary_cross_entropy requires implicit feedback"),
    ("sampler.max_interactions=90 sampler.support_size=[90,99]", "a smallest size of at most"),
    ("sampler.min_interactions=90", "users with at least 90 interactions"),
])
def test_what_does_not_fit_the_data_is_one_line_before_anything_is_trained(changes, message, settings, tiny_data,
                                                                           tmp_path, capfd):
    arguments = ["--config", settings, "--data", tiny_data, "--out", str(tmp_path / "x"), "--set", "learner.name=maml"]
    for change in changes.split():
        arguments += ["--set", change]
    assert main(["train", *arguments]) == 2
    error = capfd.readouterr().err
    assert message in error and len([line for line in error.splitlines() if line.startswith("tfmeta: ")]) == 1
    # Another try finds the place free.
    assert not (tmp_path / "x").exists()


def test_print_config(capfd):
    assert main(["train", "--config", "quick", "--print-config", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["epochs"] == 3
