"""The entry point of a training job, on a remote file system."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tiny_prepared import SMALL

from tfmeta.io import filesystem
from trainer import task

SCHEMA = """
label: {name: rating, unit: rating, minimum: 1, maximum: 5, threshold: 4}
user_id: user
item_id: movie
user_features: [{name: age, kind: numeric}]
item_features: [{name: genre, kind: categorical}]
"""


@pytest.fixture
def bucket():
    path = "ram://bucket"
    filesystem.remove_tree(path)
    filesystem.makedirs(path)
    yield path
    filesystem.remove_tree(path)


def put(path, text):
    filesystem.makedirs(path.rsplit("/", 1)[0])
    filesystem.write_text(path, text)


def test_prepared_data_to_exported_model_by_environment(bucket, tiny_data, capsys, caplog):
    filesystem.copy_tree(tiny_data, f"{bucket}/prepared", last=("manifest.json",))
    put(f"{bucket}/config.yaml", json.dumps(SMALL))
    environ = {"AIP_MODEL_DIR": f"{bucket}/job/model", "AIP_CHECKPOINT_DIR": f"{bucket}/job/checkpoints",
               "AIP_TENSORBOARD_LOG_DIR": f"{bucket}/job/logs", "AIP_TRAINING_DATA_URI": f"{bucket}/prepared",
               "TF_CONFIG": '{"cluster": {"chief": ["localhost:2222"]}, "task": {"type": "chief", "index": 0}}'}
    arguments = ["--config", f"{bucket}/config.yaml", "--set", "epochs=1", "--json"]
    caplog.set_level("INFO", logger="trainer.task")
    assert task.main(arguments, environ=environ) == 0, capsys.readouterr().err
    result = json.loads(capsys.readouterr().out)
    assert result["run"] == f"{bucket}/job/run" and result["model_dir"] == f"{bucket}/job/model"
    assert any("epoch 1" in m and "val_mae" in m for m in caplog.messages)
    assert {"saved_model.pb", "variables"} <= set(filesystem.listdir(f"{bucket}/job/model"))
    assert any(n.endswith(".index") for n in filesystem.listdir(f"{bucket}/job/checkpoints"))
    assert any(n.startswith("events") for n in filesystem.listdir(f"{bucket}/job/logs"))
    assert "tensorboard" not in filesystem.listdir(f"{bucket}/job/run")
    assert "serving_default" in tf.saved_model.load(f"{bucket}/job/model").signatures
    # Started again after it had finished: the same outcome, nothing is done twice.
    assert task.main(arguments, environ=environ) == 0
    assert json.loads(capsys.readouterr().out) == result


def write_raw(folder, *, parts):
    """Writes interactions as `parts` CSV files, split by row as a service would."""
    rng = np.random.default_rng(3)
    rows = [{"user": f"u{u}", "movie": f"i{i}", "rating": int(rng.integers(1, 6)), "age": 20 + u % 40,
             "genre": "abc"[i % 3]} for u in range(60) for i in rng.choice(60, 30, replace=False)]
    frame = pd.DataFrame(rows).sample(frac=1.0, random_state=1)
    for number, name in enumerate(parts):
        put(f"{folder}/{name}-00001.csv", frame.iloc[number::len(parts)].to_csv(index=False))
    put(f"{folder}/schema.yaml", SCHEMA)
    return len(frame)


def test_raw_data_is_joined_and_split_by_user(bucket, capsys, caplog):
    rows = write_raw(f"{bucket}/raw", parts=("training", "validation", "test"))
    put(f"{bucket}/config.yaml", json.dumps(SMALL | {"sampler": {"query_size": 2, "min_interactions": 4}}))
    environ = {"AIP_DATA_FORMAT": "csv", **{f"AIP_{part.upper()}_DATA_URI": f"{bucket}/raw/{part}-*"
                                            for part in ("training", "validation", "test")}}
    caplog.set_level("INFO", logger="trainer.task")
    code = task.main(["--config", f"{bucket}/config.yaml", "--schema", f"{bucket}/raw/schema.yaml", "--work-dir",
                      f"{bucket}/job", "--set", "epochs=1"], environ=environ)
    assert code == 0, capsys.readouterr().err
    assert any("split by user instead" in m for m in caplog.messages)
    summary = json.loads(filesystem.read_text(f"{bucket}/job/prepared/summary.json"))
    assert summary["read"]["kept"] == rows
    assert "run.json" in filesystem.listdir(f"{bucket}/job/run")


@pytest.mark.parametrize(("arguments", "environ", "message"), [
    (["--data", "d"], {}, "--work-dir"),
    (["--work-dir", "w"], {}, "AIP_TRAINING_DATA_URI"),
    (["--work-dir", "w", "--data", "nothing-*.csv"], {}, "--schema"),
    (["--work-dir", "w", "--schema", "schema.yaml"], {"AIP_TRAINING_DATA_URI": "x-*", "AIP_DATA_FORMAT": "jsonl"},
     "AIP_DATA_FORMAT"),
    (["--work-dir", "w", "--data", "d"], {"TF_CONFIG": '{"cluster": {"worker": ["a", "b"]}}'}, "of the 2 workers"),
])
def test_mistakes_are_one_line_and_exit_code_2(arguments, environ, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("schema.yaml").write_text(SCHEMA)
    assert task.main(arguments, environ=environ) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "w").exists()
