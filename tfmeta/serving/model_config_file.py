"""ModelServerConfig, TensorFlow Serving's list of models: text file or message -> `ModelConfig`."""

import os

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tfmeta.errors import ServingError
from tfmeta.io import filesystem
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.version_policy import VersionPolicy

_PLATFORM = "tensorflow"


def read_model_config_file(path: str) -> tuple[ModelConfig, ...]:
    """Reads a text proto as `tensorflow_model_server --model_config_file` takes it.

    Args:
      path: of the file.

    Returns:
      The models in the order of the file.

    Raises:
      ServingError: naming the file and line, or the entry, that is wrong.
      DataError: if there is no such file.
    """
    return parse_model_config(read_model_config_text(path), path=path)


def read_model_config_text(path: str) -> str:
    """Returns what the file holds; ServingError if that is no text, DataError if there is no such file."""
    try:
        return filesystem.read_text(path)
    except UnicodeDecodeError:
        raise ServingError(f"Model configuration '{path}' requires a ModelServerConfig in text format, received "
                           "bytes that are no text.") from None


def parse_model_config(text: str, *, path: str) -> tuple[ModelConfig, ...]:
    """Reads what a file holds; `path` is its name in errors, which are those of `read_model_config_file`."""
    try:
        message = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        models = model_configs(message)
    except text_format.ParseError as error:
        raise ServingError(f"Model configuration '{path}' requires a ModelServerConfig in text format: line "
                           f"{str(error).rstrip('.')}.") from None
    except RequestError as error:
        raise ServingError(f"Model configuration '{path}': {error.message.rstrip('.')}.") from None
    if not models:
        raise ServingError(f"Model configuration '{path}' requires at least one 'model_config_list {{ config {{ ... "
                           "}} }}', received none.")
    return models


def model_configs(message: model_server_config_pb2.ModelServerConfig) -> tuple[ModelConfig, ...]:
    """Reads and checks a message, with TensorFlow Serving's codes and words for what it refuses too.

    Raises:
      RequestError: FAILED_PRECONDITION for anything but a model_config_list, INVALID_ARGUMENT for a wrong entry.
    """
    if message.WhichOneof("config") != "model_config_list":
        raise RequestError("FAILED_PRECONDITION", "Cannot transition to requested config. It is only legal to "
                                                  "transition from one ModelConfigList to another.")
    entries = message.model_config_list.config
    names = [entry.name for entry in entries]
    for position, name in enumerate(names):
        if not name:
            raise RequestError("INVALID_ARGUMENT", f"Entry {position} of the config list requires a name")
        if name in names[:position]:
            raise RequestError("INVALID_ARGUMENT", f"Illegal to list model {name} multiple times in config list")
    return tuple(_model(entry) for entry in entries)


def _model(entry) -> ModelConfig:
    path = entry.base_path
    if not (filesystem.is_remote(path) or os.path.isabs(path)):
        raise RequestError("INVALID_ARGUMENT",
                           f"Expected model {entry.name} to have an absolute path or URI; got base_path()={path}")
    platform = entry.model_platform or (_PLATFORM if entry.model_type == 1 else "")
    if not platform:
        raise RequestError("INVALID_ARGUMENT", "Illegal setting neither ModelServerConfig::model_type (deprecated) "
                                               "nor ModelServerConfig::model_platform.")
    if platform != _PLATFORM:
        raise RequestError("INVALID_ARGUMENT",
                           f'Model {entry.name} requires model_platform "{_PLATFORM}", received "{platform}"')
    try:
        policy = _policy(entry.model_version_policy)
    except ServingError as error:
        raise RequestError("INVALID_ARGUMENT", f"Model {entry.name}: {error}") from None
    return ModelConfig(name=entry.name, base_path=path, policy=policy, labels=dict(entry.version_labels))


def _policy(message) -> VersionPolicy:
    kind = message.WhichOneof("policy_choice") or "latest"
    if kind == "specific":
        return VersionPolicy(kind="specific", versions=tuple(message.specific.versions))
    if kind == "all":
        return VersionPolicy(kind="all")
    # Zero stands for one, as in TensorFlow Serving.
    return VersionPolicy(kind="latest", count=max(1, message.latest.num_versions))
