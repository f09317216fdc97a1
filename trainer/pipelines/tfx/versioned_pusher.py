"""TFX's Pusher, with our way of publishing a version."""

from typing import Any

from tfx import types
from tfx.components.pusher import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, proto_utils

from tfmeta.errors import ConfigError
from trainer.pipelines.tfx.publish import publish


class VersionedPushExecutor(executor.Executor):
    """Pushes as `publish` does, where TFX copies file by file into a directory that servers see at once."""

    def Do(self, input_dict: dict[str, list[types.Artifact]], output_dict: dict[str, list[types.Artifact]],
           exec_properties: dict[str, Any]) -> None:
        """Publishes a blessed model; one that is not blessed is recorded as not pushed."""
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        if destination.WhichOneof("destination") != "filesystem":
            raise ConfigError("'push_destination' requires a filesystem, received "
                              f"{destination.WhichOneof('destination')}.")
        source = self.GetModelPath(input_dict)
        path, version = publish(source, model_base=destination.filesystem.base_directory)
        io_utils.copy_dir(source, pushed.uri)
        self._MarkPushed(pushed, pushed_destination=path, pushed_version=str(version))


class VersionedPusher(component.Pusher):
    """TFX's Pusher with `VersionedPushExecutor`: same inputs and outputs; versions count up by one."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(VersionedPushExecutor)
