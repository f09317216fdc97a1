"""The pipeline in TFX itself: run by its local runner, compiled for Vertex AI. Run by `make test-tfx`."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import yaml

from tfmeta import cli
from tfmeta.errors import ConfigError, ExportError

SETTINGS = {
    "name": "movies", "image": "registry/tfmeta-tfx:1", "root": "gs://bucket/root", "push_to": "gs://bucket/served",
    "parameters": {"dataset": "synthetic", "config": "quick", "ks": "0,all", "baselines": "damped_bias", "top_k": 5,
                   "train": {"epochs": 3},
                   "split": {"synthetic": {"users": 300, "items": 150, "ratings_per_user": 40}}}}


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """(settings file, the pipeline compiled in this process)."""
    folder = tmp_path_factory.mktemp("compiled")
    settings, out = folder / "settings.yaml", folder / "pipeline.json"
    settings.write_text(yaml.safe_dump(SETTINGS))
    assert cli.main(["pipeline", "compile", "--target", "tfx", "--config", str(settings), "--out", str(out)]) == 0
    return settings, out


@pytest.fixture(scope="session")
def job(compiled) -> dict:
    return json.loads(compiled[1].read_text())


@pytest.fixture(scope="session")
def ran(tmp_path_factory, compiled):
    """(outcome, its folder) of the whole pipeline."""
    from trainer.pipelines.tfx import run

    folder = tmp_path_factory.mktemp("run")
    assert run.main(["--config", str(compiled[0]), "--set", f"root={folder}/artifacts",
                     "--set", f"push_to={folder}/served"]) == 0
    return folder


@pytest.fixture(scope="session")
def store(ran):
    from ml_metadata import metadata_store
    from tfx.orchestration.metadata import sqlite_metadata_connection_config

    return metadata_store.MetadataStore(sqlite_metadata_connection_config(f"{ran}/artifacts/metadata.sqlite"))


def one(store, kind: str):
    (found,) = store.get_artifacts_by_type(kind)
    return found


def test_artifacts_are_tfx_s_own(store):
    assert {t.name for t in store.get_artifact_types()} >= {
        "Examples", "Schema", "Model", "ModelRun", "ModelEvaluation", "ModelBlessing", "PushedModel"}
    examples = one(store, "Examples")
    assert json.loads(examples.properties["split_names"].string_value) == ["interactions", "users", "items"]
    assert examples.custom_properties["users_rows"].int_value == 300
    blessing = one(store, "ModelBlessing")
    assert blessing.custom_properties["blessed"].int_value == 1
    assert os.listdir(blessing.uri) == ["BLESSED"]
    assert blessing.custom_properties["current_model_id"].int_value == one(store, "Model").id
    assert "<html" in pathlib.Path(one(store, "ModelEvaluation").uri, "report.html").read_text("utf-8")


def test_tfx_reads_the_examples_by_their_schema(store):
    """By the tools of TFX that its own components use."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx.components.util import tfxio_utils
    from tfx.types import standard_artifacts
    from tfx_bsl.tfxio import dataset_options

    schema = text_format.Parse(pathlib.Path(one(store, "Schema").uri, "schema.pbtxt").read_text(), schema_pb2.Schema())
    examples = standard_artifacts.Examples()
    examples.set_mlmd_artifact(one(store, "Examples"))
    factory = tfxio_utils.get_record_batch_factory_from_artifact([examples], ["tfmeta"])
    folder = examples.path(split="items")
    batches = list(factory([f"{folder}/{name}" for name in os.listdir(folder)],
                           dataset_options.RecordBatchesOptions(batch_size=1000, num_epochs=1), schema))
    assert sum(batch.num_rows for batch in batches) == 150
    assert {"item_id", "genre", "tags", "embedding"} <= set(batches[0].schema.names)
    assert {len(v) for v in batches[0].column(batches[0].schema.names.index("embedding")).to_pylist()} == {8}


def test_the_pushed_version_verifies_and_answers(ran, store):
    from export.verify import verify
    from tfmeta.data.prepared_data import PreparedData
    from tfmeta.serving.servable import Servable

    pushed = one(store, "PushedModel")
    path = pushed.custom_properties["pushed_destination"].string_value
    assert path == f"{ran}/served/1" and pushed.custom_properties["pushed_version"].string_value == "1"
    assert os.listdir(f"{ran}/served") == ["1"]
    checks = verify(path)
    assert checks and all(c.passed for c in checks), checks
    prepared = PreparedData(one(store, "ModelRun").uri + "/prepared")
    assert prepared.summary["users"]["cold"] > 0
    user, items = prepared.users.iloc[0], prepared.items["item_id"].to_numpy(object)
    # The same user twice, the second with five interactions as support.
    inputs = {f"user_{f.name}": np.array([user[f.name]] * 2, object if f.dtype == "string" else f.dtype)
              for f in prepared.feature_spec.user_features}
    answer = Servable("movies", 1, path).run("adapt_and_score", inputs | {
        "query_item_id": np.array([items[5:10]] * 2, object), "support_item_id": np.array([items[:5]] * 2, object),
        "support_label": np.full((2, 5), 5.0, np.float32), "support_length": np.array([0, 5], np.int32)})
    assert np.isfinite(answer["scores"]).all()
    np.testing.assert_allclose(answer["scores"][0], answer["base_scores"][0], rtol=1e-5)
    assert abs(answer["scores"][1] - answer["base_scores"][1]).max() > 0.01


def push(store, blessing: str, *, base: str, out) -> dict:
    """What the Pusher records of the model when told that `blessing` is where its blessing lies."""
    from tfx.proto import pusher_pb2
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from trainer.pipelines.tfx.versioned_pusher import VersionedPushExecutor

    made = {"model": standard_artifacts.Model(), "blessing": standard_artifacts.ModelBlessing(),
            "pushed": standard_artifacts.PushedModel()}
    made["model"].set_mlmd_artifact(one(store, "Model"))
    made["blessing"].set_int_custom_property("blessed", int(os.path.exists(f"{blessing}/BLESSED")))
    made["pushed"].uri = str(out)
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=base))
    VersionedPushExecutor().Do({"model": [made["model"]], "model_blessing": [made["blessing"]]},
                               {"pushed_model": [made["pushed"]]},
                               {"push_destination": proto_utils.proto_to_json(destination)})
    return {key: value.int_value or value.string_value
            for key, value in made["pushed"].mlmd_artifact.custom_properties.items()}


def test_a_second_push_is_the_next_version(store, tmp_path):
    base = tmp_path / "served"
    (base / "41").mkdir(parents=True)
    recorded = push(store, one(store, "ModelBlessing").uri, base=str(base), out=tmp_path / "pushed")
    assert recorded["pushed"] == 1 and recorded["pushed_version"] == "42"
    assert (base / "42" / "saved_model.pb").exists() and (tmp_path / "pushed" / "saved_model.pb").exists()


def test_what_the_gate_keeps_back_is_not_pushed(store, tmp_path, monkeypatch):
    from trainer.pipelines.tfx import judge as judges

    evaluate = judges.evaluate

    def worse(*, evaluated, **given):
        evaluate(evaluated=evaluated, **given)
        path = pathlib.Path(evaluated.path, "evaluation.json")
        document = json.loads(path.read_text())
        for row in document["rows"]:
            if row["role"] == "learner" and row["k"] == "all" and row["metric"] == "auc":
                row["value"] = 0.01
        path.write_text(json.dumps(document))

    monkeypatch.setattr(judges, "evaluate", worse)
    blessing, evaluation = tmp_path / "blessing", tmp_path / "evaluation"
    evaluation.mkdir()
    reasons = judges.judge(one(store, "ModelRun").uri, evaluation=str(evaluation), blessing=str(blessing), ks="0,all",
                           baselines="damped_bias", gate_states="")
    assert any("0.0100 is no better than" in reason for reason in reasons)
    assert (blessing / "NOT_BLESSED").read_text().splitlines() == reasons and not (blessing / "BLESSED").exists()
    recorded = push(store, str(blessing), base=str(tmp_path / "served"), out=tmp_path / "pushed")
    assert recorded["pushed"] == 0 or "pushed_destination" not in recorded
    assert not (tmp_path / "served").exists()


def test_half_a_model_is_not_published(store, tmp_path):
    from trainer.pipelines.tfx.publish import publish

    with pytest.raises(ExportError, match=r"has no saved_model\.pb"):
        publish(str(tmp_path), model_base=str(tmp_path / "served"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(ExportError):
        publish(str(broken), model_base=str(tmp_path / "served"))
    assert not (tmp_path / "served").exists() or os.listdir(tmp_path / "served") == []


def test_compiled_pipeline_is_valid(job):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec = json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec(), ignore_unknown_fields=True)
    assert spec.pipeline_info.name == "movies" and job["runtimeConfig"] == {"gcsOutputDirectory": "gs://bucket/root"}
    tasks = job["pipelineSpec"]["root"]["dag"]["tasks"]
    assert set(tasks) == {"interaction_example_gen", "Trainer", "gated_evaluator", "VersionedPusher"}
    assert tasks["VersionedPusher"]["inputs"]["artifacts"]["model_blessing"]["taskOutputArtifact"] == {
        "producerTask": "gated_evaluator", "outputArtifactKey": "blessing"}
    for executor in job["pipelineSpec"]["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == "registry/tfmeta-tfx:1"


def started(job: dict, name: str, given: dict) -> dict:
    """Runs a step as its container is told to; returns the executor output."""
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as entry

    container = job["pipelineSpec"]["deploymentSpec"]["executors"][f"{name}_executor"]["container"]
    assert container["command"] == ["python", "-m", entry.__name__]
    words = [json.dumps(given) if word == "{{$}}" else word for word in container["args"]]
    parsed, rest = entry._parse_flags(words)
    entry.main((parsed, rest))
    return json.loads(pathlib.Path(given["outputs"]["outputFile"]).read_text())


def test_a_container_runs_a_step_and_tells_the_next_of_its_splits(job, tmp_path):
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils
    from tfx.types import artifact_utils

    spec = job["pipelineSpec"]
    kinds = spec["components"]["interaction_example_gen"]["outputDefinitions"]["artifacts"]
    given = {"inputs": {"parameters": {"dataset": {"stringValue": "synthetic"}, "source": {"stringValue": ""},
                                       "source_schema": {"stringValue": ""},
                                       "synthetic": {"stringValue": '{"users": 30, "items": 20}'}}},
             "outputs": {"artifacts": {name: {"artifacts": [{"name": f"projects/1/{name}", "uri": f"{tmp_path}/{name}",
                                                             "type": kind["artifactType"], "metadata": {}}]}
                                       for name, kind in kinds.items()},
                         "outputFile": f"{tmp_path}/output.json"}}
    made = started(job, "interaction_example_gen", given)["artifacts"]
    (tmp_path / "schema" / "schema.pbtxt").stat()
    examples = made["examples"]["artifacts"][0]
    assert examples["metadata"]["users_rows"] == 30
    # The engine says what the component compiled has said.
    raw = {"examples": _artifact_list(examples | {"type": kinds["examples"]["artifactType"]})}
    (read,) = kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(raw, {})["examples"]
    (folder,) = artifact_utils.get_split_uris([read], "users")
    assert folder == f"{tmp_path}/examples/Split-users" and len(os.listdir(folder)) == 1


def _artifact_list(artifact: dict):
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    return json_format.ParseDict({"artifacts": [artifact]}, pipeline_spec_pb2.ArtifactList())


def test_every_step_can_be_started_in_its_container(job):
    """The classes that the containers' commands name are there."""
    from tfx.utils import import_utils

    for executor in job["pipelineSpec"]["deploymentSpec"]["executors"].values():
        arguments = executor["container"]["args"]
        name = arguments[arguments.index("--executor_class_path") + 1]
        assert hasattr(import_utils.import_class_by_path(name), "Do")
    parameters = job["pipelineSpec"]["root"]["dag"]["tasks"]["Trainer"]["inputs"]["parameters"]
    module, _, function = parameters["run_fn"]["runtimeValue"]["constantValue"]["stringValue"].rpartition(".")
    assert callable(import_utils.import_func_from_module(module, function))


def test_another_process_compiles_the_same_bytes(compiled, tmp_path, repository):
    settings, out = compiled
    again = tmp_path / "again.json"
    subprocess.run([sys.executable, "-m", "tfmeta", "pipeline", "compile", "--target", "tfx", "--config", str(settings),
                    "--out", str(again)], check=True, cwd=repository, capture_output=True,
                   env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "7"})
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(("arguments", "message"), [
    (["--set", "parameters.train.epochs=0"], "'epochs' requires at least 1, received 0"),
    (["--set", "parameters.split.cold_user_share=2"], "'cold_user_share' requires"),
    (["--set", "parameters.topk=3"], "Did you mean 'top_k'"),
    (["--set", "parameters.dataset=csv"], "'parameters.source' requires"),
    (["--set", "parameters.serving=vertex-prebuilt"], "'parameters.serving' requires nothing"),
    (["--set", "root=here"], "'root' requires a bucket"), (["--set", "push_to=here"], "'push_to' requires a URI"),
    (["--out", "pipeline.yaml"], "ending .json")])
def test_what_is_out_of_range_fails_at_compile_time(compiled, arguments, message, tmp_path, capsys):
    out = tmp_path / "none.json"
    command = ["pipeline", "compile", "--target", "tfx", "--config", str(compiled[0]), "--out", str(out), *arguments]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()


def test_what_a_step_finds_wrong_is_one_line(compiled, tmp_path, capsys):
    from trainer.pipelines.tfx import run

    (tmp_path / "log.csv").write_text("user_id,item_id,stars\na,b,5\n")
    (tmp_path / "schema.yaml").write_text("interactions: log.csv\n")
    assert run.main(["--set", f"root={tmp_path}/artifacts", "--set", f"push_to={tmp_path}/served",
                     "--set", "parameters.dataset=csv", "--set", f"parameters.source={tmp_path}",
                     "--set", f"parameters.schema={tmp_path}/schema.yaml"]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("trainer.pipelines.tfx.run: error: File 'log.csv' requires column 'rating'")
    assert not (tmp_path / "served").exists()


def test_schemas_of_other_components_want_words(tmp_path):
    from trainer.pipelines.tfx.schema_artifact import read_schema

    (tmp_path / "schema.pbtxt").write_text('feature { name: "user" type: BYTES }')
    with pytest.raises(ConfigError, match="does not say which features are users"):
        read_schema(str(tmp_path / "schema.pbtxt"))
