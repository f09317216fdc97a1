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


def test_print_config(capfd):
    assert main(["train", "--config", "quick", "--print-config", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["epochs"] == 3
