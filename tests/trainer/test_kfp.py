"""The pipeline for Kubeflow Pipelines: compiled, and run here by its own local runner."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from tfmeta import cli

pytest.importorskip("kfp")
pytest.importorskip("google_cloud_pipeline_components")

SETTINGS = {
    "name": "movies", "image": "registry/tfmeta:1", "upload": {"project": "p", "location": "europe-west4"},
    "train_resources": {"cpus": 8, "memory_gib": 30, "accelerator": "NVIDIA_TESLA_T4", "accelerators": 1},
    "parameters": {"dataset": "synthetic", "config": "quick",
                   "train": {"epochs": 2, "optimizer": {"learning_rate": 0.02}, "sampler": {"query_size": 3}},
                   "split": {"synthetic": {"users": 300, "items": 150, "seed": 1}, "cold_user_share": 0.2}}}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """(settings file, the pipeline compiled in this process)."""
    folder = tmp_path_factory.mktemp("compiled")
    settings, out = folder / "settings.yaml", folder / "pipeline.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS))
    assert cli.main(["pipeline", "compile", "--target", "kfp", "--config", str(settings), "--out", str(out)]) == 0
    return settings, out


@pytest.fixture(scope="module")
def spec(compiled) -> dict:
    return yaml.safe_load(compiled[1].read_text())


def test_compiled_pipeline_is_valid(compiled, spec):
    from google.protobuf import json_format
    from kfp import components
    from kfp.pipeline_spec import pipeline_spec_pb2

    loaded = components.load_component_from_file(str(compiled[1]))
    assert loaded.name == "movies"
    message = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert message.root.dag.tasks["condition-1"].trigger_policy.condition == (
        "inputs.parameter_values['pipelinechannel--gate-passed'] == 'true'")


def test_steps_run_in_containers_with_typed_artifacts(spec):
    from trainer.pipelines.step import STEPS

    executors = spec["deploymentSpec"]["executors"]
    for name in STEPS:
        container = executors[f"exec-{name.replace('_', '-')}"]["container"]
        assert container["image"] == ("registry/tfmeta:1-gpu" if name == "train" else "registry/tfmeta:1")
        assert container["command"] == ["python", "-m", "trainer.pipelines.step"]
        assert container["args"] == [name, "--executor-input", "{{$}}"]
    assert executors["exec-train"]["container"]["resources"]["accelerator"]["resourceCount"] == "1"
    kinds = {(step, name): value["artifactType"]["schemaTitle"]
             for step, component in spec["components"].items() if step.removeprefix("comp-").replace("-", "_") in STEPS
             for name, value in component["outputDefinitions"]["artifacts"].items()}
    assert kinds[("comp-prepare", "prepared")] == "system.Dataset"
    assert kinds[("comp-train", "run")] == "system.Model"
    assert kinds[("comp-evaluate", "report")] == "system.HTML"
    assert kinds[("comp-gate", "verdict")] == "system.Metrics"
    assert kinds[("comp-export", "model")] == "google.UnmanagedContainerModel"


def test_nothing_is_exported_or_uploaded_past_the_gate(spec):
    assert set(spec["root"]["dag"]["tasks"]) == {"prepare", "train", "evaluate", "gate", "condition-1"}
    inner = spec["components"]["comp-condition-1"]["dag"]["tasks"]
    assert set(inner) == {"export", "model-upload", "condition-2"}
    assert inner["model-upload"]["inputs"]["parameters"]["location"]["runtimeValue"]["constant"] == "europe-west4"
    assert set(spec["components"]["comp-condition-2"]["dag"]["tasks"]) == {"batch-score"}


def test_another_process_compiles_the_same_bytes(compiled, tmp_path, repository):
    settings, out = compiled
    again = tmp_path / "again.yaml"
    subprocess.run([sys.executable, "-m", "tfmeta", "pipeline", "compile", "--target", "kfp", "--config", str(settings),
                    "--out", str(again)], check=True, cwd=repository, capture_output=True,
                   env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "7"})
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--set", "parameters.train.epochs=0"], "'epochs' requires at least 1, received 0"),
    (["--set", "parameters.split.cold_user_share=2"], "'cold_user_share' requires"),
    (["--set", "parameters.topk=3"], "Did you mean 'top_k'"),
    (["--set", "train_resources.accelerators=99"], "'accelerators' requires 0 to 16"),
    (["--set", "name=My Pipeline"], "'name' requires"),
    (["--out", "pipeline.txt"], "ending .yaml")])
def test_what_is_out_of_range_fails_at_compile_time(compiled, arguments, message, tmp_path, capsys):
    out = tmp_path / "none.yaml"
    command = ["pipeline", "compile", "--target", "kfp", "--config", str(compiled[0]), "--out", str(out), *arguments]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_runs_here_to_an_exported_verified_model(tmp_path):
    from tfmeta.config import parse
    from tfmeta.data.prepared_data import PreparedData
    from tfmeta.serving.servable import Servable
    from trainer.pipelines.kfp.local_run import run_local
    from trainer.pipelines.kfp.pipeline_config import PipelineConfig

    config = parse(PipelineConfig, {"parameters": {
        "dataset": "synthetic", "config": "quick", "ks": "0,all", "baselines": "damped_bias", "train": {"epochs": 3},
        "split": {"synthetic": {"users": 300, "items": 150, "ratings_per_user": 40}}, "top_k": 5}})
    run = run_local(config, root=str(tmp_path))
    assert run.passed, run.verdict
    assert "<html" in pathlib.Path(run.report).read_text("utf-8")
    container = run.model_metadata["containerSpec"]
    assert container["imageUri"].startswith("tensorflow/serving:")
    model = pathlib.Path(run.model)
    assert sorted(p.name for p in model.iterdir()) == ["1"] and run.model_metadata["savedModel"] == "1"
    assert (model / "1" / "assets.extra" / "MODEL_CARD.json").exists()
    # The export step has verified it in a second process; here it answers: one user without support, one with.
    (prepared,) = tmp_path.glob("*/prepare/prepared")
    scores = Servable("model", 1, str(model / "1")).run("adapt_and_score", _request(PreparedData(str(prepared))))
    assert np.isfinite(scores["scores"]).all()
    np.testing.assert_allclose(scores["scores"][0], scores["base_scores"][0], rtol=1e-5)
    assert abs(scores["scores"][1] - scores["base_scores"][1]).max() > 0.01
    _score_in_bulk(run.model, PreparedData(str(prepared)), folder=tmp_path / "bulk")


def _score_in_bulk(model: str, prepared, *, folder: pathlib.Path) -> None:
    """The batch-score step on the exported model, as its container runs it."""
    from trainer.pipelines import step

    folder.mkdir()
    users, items = prepared.users, prepared.items["item_id"].to_numpy(object)
    users.drop(columns="partition").head(20).to_parquet(folder / "users.parquet")
    log = pd.DataFrame({"user_id": np.repeat(users["user_id"].to_numpy(object)[:20], 3), "item_id": items[:60],
                        "rating": 4.0})
    log.to_parquet(folder / "log.parquet")
    (folder / "pairs.csv").write_text(log.assign(item_id=items[60:120])[["user_id", "item_id"]].to_csv(index=False))

    def artifact(name, uri):
        return {"artifacts": [{"name": name, "uri": uri, "metadata": {}}]}

    given = {"inputs": {"parameterValues": {"mode": "score", "interactions": [str(folder / "log.parquet")],
                                            "candidates": [str(folder / "pairs.csv")],
                                            "users": [str(folder / "users.parquet")], "beam_options": []},
                        "artifacts": {"model": artifact("model", model)}},
             "outputs": {"artifacts": {name: artifact(name, str(folder / name)) for name in ("scores", "summary")},
                         "outputFile": str(folder / "output.json")}}
    assert step.main(["batch_score", "--executor-input", json.dumps(given)]) == 0
    made = json.loads((folder / "output.json").read_text())["artifacts"]
    assert made["scores"]["artifacts"][0]["metadata"] | {"parts": 0} == {"mode": "score", "rows": 60, "parts": 0}
    assert made["summary"]["artifacts"][0]["metadata"]["read_candidates"] == 60
    scores = pd.concat([pd.read_parquet(p) for p in sorted((folder / "scores").glob("part-*.parquet"))])
    assert len(scores) == 60 and np.isfinite(scores["score"]).all()


def _request(prepared) -> dict[str, np.ndarray]:
    """The same user twice, the second with five interactions as support."""
    user, items = prepared.users.iloc[0], prepared.items["item_id"].to_numpy(object)
    inputs = {f"user_{f.name}": np.array([user[f.name]] * 2, object if f.dtype == "string" else f.dtype)
              for f in prepared.feature_spec.user_features}
    return inputs | {"query_item_id": np.array([items[5:10]] * 2, object),
                     "support_item_id": np.array([items[:5]] * 2, object),
                     "support_label": np.full((2, 5), 5.0, np.float32), "support_length": np.array([0, 5], np.int32)}
