"""The text protos of serving_config/.

Validated by TensorFlow Serving's own message: models.config, models_split.config (`ModelServerConfig`, which
tensorflow-serving-api carries). By a message with the same fields and numbers, since no package carries the original:
batching_parameters.txt (`BatchingParameters` of session_bundle_config.proto, built by tfmeta.serving.batching) and
monitoring.config (`MonitoringConfig` of monitoring_config.proto, built here).
"""

import re

import pytest
from config_files import FLAGS, FOLDER, METRICS_PATH
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from benchmarks.serving import SWEEP
from export import warmup
from tfmeta.errors import ServingError
from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.client.client_options import ClientOptions
from tfmeta.serving.model_config_file import read_model_config_file


def server_config(name):
    from tensorflow_serving.config import model_server_config_pb2

    return text_format.Parse((FOLDER / name).read_text("utf-8"), model_server_config_pb2.ModelServerConfig())


def monitoring_message():
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="monitoring_config_test.proto", package="test", syntax="proto3")
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_BOOL)
    prometheus.field.add(name="path", number=2, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(name="prometheus_config", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_MESSAGE,
                         type_name=".test.PrometheusConfig")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.MonitoringConfig"))()


def test_models_config_serves_two_versions_under_labels():
    (model,) = server_config("models.config").model_config_list.config
    assert model.name == "recommender" and model.model_platform == "tensorflow"
    assert model.base_path.startswith("/models/")
    versions = list(model.model_version_policy.specific.versions)
    assert len(versions) == 2
    assert set(model.version_labels) == {"stable", "canary"}
    assert sorted(model.version_labels.values()) == sorted(versions)
    assert model.version_labels["stable"] < model.version_labels["canary"]


def test_models_split_config_has_two_names():
    models = server_config("models_split.config").model_config_list.config
    assert [m.name for m in models] == ["recommender", "recommender_adapt"]
    assert len({m.base_path for m in models}) == 2
    assert all(m.model_version_policy.latest.num_versions == 1 and m.model_platform == "tensorflow" for m in models)


@pytest.mark.parametrize("name", ["models.config", "models_split.config"])
def test_the_embedded_server_reads_the_same_files(name):
    read = read_model_config_file(str(FOLDER / name))
    expected = server_config(name).model_config_list.config
    assert [(m.name, m.base_path, dict(m.labels)) for m in read] == [
        (m.name, m.base_path, dict(m.version_labels)) for m in expected]


def test_a_misspelt_field_would_be_noticed():
    """What these messages are good for."""
    from tensorflow_serving.config import model_server_config_pb2

    for message, text in ((model_server_config_pb2.ModelServerConfig(), "model_config_lists {}"),
                          (monitoring_message(), "prometheus_config { enabled: true }")):
        with pytest.raises(text_format.ParseError):
            text_format.Parse(text, message)
    with pytest.raises(ServingError, match="allowed_batch_size"):
        BatchingParameters.parse("allowed_batch_size: 3")


def test_batching_parameters():
    parameters = BatchingParameters.read(str(FOLDER / "batching_parameters.txt"))
    assert parameters.allowed_batch_sizes[0] == 1, "a request that comes alone must not be filled up"
    assert parameters.allowed_batch_sizes[-1] == parameters.max_batch_size
    assert parameters.pad_variable_length_inputs, "requests differ in their numbers of candidates and support rows"
    assert 1 <= parameters.num_batch_threads <= 64
    assert 0 <= parameters.batch_timeout_micros <= 10_000
    assert (parameters.max_batch_size, parameters.batch_timeout_micros, parameters.num_batch_threads) in SWEEP, (
        "the values are those of a measured setting")
    assert ClientOptions().max_batch <= parameters.max_batch_size, "the client's requests would be refused"


def test_exports_are_warmed_up_at_the_batch_sizes_that_the_server_makes():
    parameters = BatchingParameters.read(str(FOLDER / "batching_parameters.txt"))
    assert parameters.allowed_batch_sizes == warmup.BATCH_SIZES


def test_monitoring_config():
    message = text_format.Parse((FOLDER / "monitoring.config").read_text("utf-8"), monitoring_message())
    assert message.prometheus_config.enable and message.prometheus_config.path == METRICS_PATH


def test_the_readme_names_real_flags_and_files():
    text = (FOLDER / "README.md").read_text("utf-8")
    mentioned = set(re.findall(r"--([a-z]+(?:_[a-z]+)+)", text))
    assert mentioned and mentioned <= FLAGS, mentioned - FLAGS
    for name in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (FOLDER / name).exists(), name
    for path in FOLDER.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert path.name in text or path.parent.name in text, f"{path.name} is not explained"
