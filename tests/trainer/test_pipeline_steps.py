"""The steps of pipelines as their containers run them: executor input in, executor output out."""

import json

import pytest

from tfmeta.errors import ConfigError
from trainer.pipelines import step
from trainer.pipelines.pipeline_parameters import PipelineParameters
from trainer.pipelines.serving_container import serving_container
from trainer.pipelines.step_artifact import StepArtifact
from trainer.pipelines.steps.prepare import whole
from trainer.pipelines.steps.train import training_config


def executor_input(folder, *, parameters=None, inputs=None, outputs=(), files=()) -> dict:
    """What an engine puts in for {{$}}."""
    def artifact(name, uri):
        return {"artifacts": [{"name": name, "uri": str(uri), "metadata": {}}]}

    return {"inputs": {"parameterValues": parameters or {},
                       "artifacts": {name: artifact(name, uri) for name, uri in (inputs or {}).items()}},
            "outputs": {"artifacts": {name: artifact(name, folder / name) for name in outputs},
                        "parameters": {name: {"outputFile": str(folder / name)} for name in files},
                        "outputFile": str(folder / "executor_output.json")}}


def rows(adapted: float) -> list[dict]:
    common = {"state": "user_cold", "features": "full", "seed": 0, "uses_history": False}
    learner = {"model": "ridge", "role": "learner", "selected": True}
    return [{**common, **learner, "k": 0, "metric": "auc", "value": 0.6},
            {**common, **learner, "k": "all", "metric": "auc", "value": adapted},
            {**common, "model": "damped_bias", "role": "reference", "selected": False, "k": "all", "metric": "auc",
             "value": 0.7}]


@pytest.mark.parametrize(("adapted", "passed"), [(0.8, "true"), (0.65, "false")])
def test_gate_writes_its_verdict_for_the_condition(tmp_path, adapted, passed):
    run = tmp_path / "run"
    run.mkdir()
    (run / "evaluation.json").write_text(json.dumps({"rows": rows(adapted)}))
    given = executor_input(tmp_path, parameters={"states": ""}, inputs={"evaluated": run}, outputs=["verdict"],
                           files=["passed"])
    assert step.main(["gate", "--executor-input", json.dumps(given)]) == 0
    assert (tmp_path / "passed").read_text() == passed
    (verdict,) = json.loads((tmp_path / "executor_output.json").read_text())["artifacts"]["verdict"]["artifacts"]
    assert verdict["uri"] == str(tmp_path / "verdict")
    assert verdict["metadata"]["comparisons"] == 2
    assert ("0.6500 is no better than 0.7000" in verdict["metadata"].get("reasons", "")) == (passed == "false")


@pytest.mark.parametrize(("text", "message"), [
    ("{", "requires JSON"), ("[]", "received list"),
    (None, "has no evaluation.json")])
def test_mistakes_are_one_line_and_exit_code_2(tmp_path, capsys, text, message):
    if text is None:
        text = json.dumps(executor_input(tmp_path, parameters={"states": ""}, inputs={"evaluated": tmp_path},
                                         outputs=["verdict"], files=["passed"]))
    assert step.main(["gate", "--executor-input", text]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("gate: error:") and error.count("\n") == 1
    assert not (tmp_path / "executor_output.json").exists()


def test_every_step_is_there():
    assert all(step.get_step(name).__name__ == name for name in step.STEPS)


@pytest.mark.parametrize(("uri", "path"), [
    ("gs://bucket/a", "gs://bucket/a"), ("minio://bucket/a", "/minio/bucket/a"), ("s3://bucket/a", "/s3/bucket/a"),
    ("relative/a", "relative/a")])
def test_artifacts_are_found_where_the_launcher_keeps_them(uri, path):
    assert StepArtifact.path_of(uri) == path


def test_structures_of_the_engine_have_whole_numbers_again():
    assert repr(whole({"a": 3.0, "b": [1.5, {"c": 2.0}], "d": True})) == "{'a': 3, 'b': [1.5, {'c': 2}], 'd': True}"
    settings = {"epochs": 4.0, "optimizer": {"learning_rate": 1.0}, "sampler": {"query_size": 2.0}}
    config = training_config("quick", settings)
    assert (config.epochs, config.optimizer.learning_rate, config.sampler.query_size) == (4, 1.0, 2)
    assert config.sampler.min_interactions == 5  # of the packaged file


def test_serving_containers():
    stock = serving_container("tensorflow-serving", image="region-docker.pkg.dev/p/r/serving:2.21.0")
    assert stock.layout == "versioned" and stock.spec["imageUri"].startswith("region-docker.pkg.dev")
    name = next(a for a in stock.spec["args"] if a.startswith("--model_name=")).removeprefix("--model_name=")
    assert stock.spec["healthRoute"] == f"/v1/models/{name}" and stock.spec["predictRoute"].endswith(f"/{name}:predict")
    assert f"--rest_api_port={stock.spec['ports'][0]['containerPort']}" in stock.spec["args"]
    assert "--model_base_path=$(AIP_STORAGE_URI)" in stock.spec["args"]
    prebuilt = serving_container("vertex-prebuilt")
    assert prebuilt.layout == "flat" and set(prebuilt.spec) == {"imageUri"}
    with pytest.raises(ConfigError, match="'serving' requires one of"):
        serving_container("torchserve")


@pytest.mark.parametrize(("values", "message"), [
    ({"train": {"epochs": 0}}, "'epochs' requires at least 1, received 0"),
    ({"train": {"optimiser": {}}}, "Did you mean 'optimizer'"),
    ({"config": "quik"}, "Did you mean 'quick'"),
    ({"split": {"cold_user_share": 1.5}}, "'cold_user_share' requires"),
    ({"dataset": "synthetic", "split": {"synthetic": {"users": 0}}}, "'users' requires at least 1"),
    ({"dataset": "synthetic", "source": "x"}, "'source' requires"),
    ({"ks": "5,all"}, "'ks' requires 0 and"),
    ({"ks": "0,some"}, "whole numbers or 'all'"),
    ({"baselines": "als_fold_in"}, "damped_bias or popularity"),
    ({"baselines": "damped_bia"}, "Did you mean 'damped_bias'"),
    ({"gate_states": "user_old"}, "Did you mean 'user_cold'"),
    ({"support_bound": 0}, "'support_bound' requires 1 to 10000"),
    ({"batch_mode": "score"}, "'batch_candidates' requires"),
    ({"batch_mode": "embed"}, "'batch_users' requires")])
def test_parameters_out_of_range(values, message):
    with pytest.raises(ConfigError, match=message):
        PipelineParameters(**values)
