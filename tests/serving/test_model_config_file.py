"""ModelServerConfig in text format."""

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfmeta.errors import DataError, ServingError
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.model_config_file import model_configs, read_model_config_file
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.version_policy import VersionPolicy


def config(text="", *, name="m", base='"/models/m"', platform='model_platform: "tensorflow"'):
    return f'config {{ name: "{name}" base_path: {base} {platform} {text} }}'


def entry(text="", **values):
    return f"model_config_list {{ {config(text, **values)} }}"


def parse(text):
    return model_configs(text_format.Parse(text, model_server_config_pb2.ModelServerConfig()))


def test_what_the_stock_server_takes(tmp_path, repository):
    file = tmp_path / "models.config"
    file.write_text("model_config_list {" + config('''
        model_version_policy { specific { versions: 3 versions: 4 } }
        version_labels { key: "stable" value: 3 } version_labels { key: "canary" value: 4 }''') + config(
        "model_version_policy { latest { num_versions: 2 } }", name="a", base='"gs://bucket/a"') + config(
        "model_version_policy { all {} }", name="b") + config(name="c", platform="model_type: TENSORFLOW") + "}")
    assert read_model_config_file(str(file)) == (
        ModelConfig("m", "/models/m", VersionPolicy(kind="specific", versions=(3, 4)), {"stable": 3, "canary": 4}),
        ModelConfig("a", "gs://bucket/a", VersionPolicy(count=2)),
        ModelConfig("b", "/models/m", VersionPolicy(kind="all")),
        ModelConfig("c", "/models/m", VersionPolicy()))
    assert read_model_config_file(str(repository / "serving_config" / "models.config"))


@pytest.mark.parametrize(("text", "code", "message"), [
    ("", "FAILED_PRECONDITION", "Cannot transition to requested config. It is only legal to transition from one "
                                "ModelConfigList to another."),
    ("custom_model_config {}", "FAILED_PRECONDITION", "Cannot transition to requested config. It is only legal to "
                                                      "transition from one ModelConfigList to another."),
    (entry(name=""), "INVALID_ARGUMENT", "Entry 0 of the config list requires a name"),
    (f"model_config_list {{ {config()} {config()} }}", "INVALID_ARGUMENT",
     "Illegal to list model m multiple times in config list"),
    (entry(base='"models/m"'), "INVALID_ARGUMENT",
     "Expected model m to have an absolute path or URI; got base_path()=models/m"),
    (entry(platform=""), "INVALID_ARGUMENT", "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                                             "ModelServerConfig::model_platform."),
    (entry(platform='model_platform: "caffe"'), "INVALID_ARGUMENT",
     'Model m requires model_platform "tensorflow", received "caffe"'),
    (entry("model_version_policy { specific {} }"), "INVALID_ARGUMENT",
     "Model m: The policy 'specific' requires version numbers from 0 on, received []."),
])
def test_refused(text, code, message):
    with pytest.raises(RequestError) as caught:
        parse(text)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_an_empty_list_is_legal_in_a_request_but_not_in_a_file(tmp_path):
    assert parse("model_config_list {}") == ()
    file = tmp_path / "models.config"
    for text, message in (("model_config_list {}", "at least one"), ("model_config_lst {}", "line 1:1"),
                          (entry(base='"x"'), "absolute path or URI")):
        file.write_text(text)
        with pytest.raises(ServingError, match=message) as caught:
            read_model_config_file(str(file))
        assert str(file) in str(caught.value)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ServingError, match="no text"):
        read_model_config_file(str(file))
    with pytest.raises(DataError, match="does not exist"):
        read_model_config_file(str(tmp_path / "nowhere"))
