"""tensorflow.serving.ModelService: GetModelStatus and HandleReloadConfigRequest."""

import logging

import grpc
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

from tfmeta.serving.model_config_file import model_configs
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.request_error import RequestError

_LOG = logging.getLogger("tfmeta.serving")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Reports the versions of a model, and replaces the list of models.

    Args:
      manager: the models.
    """

    def __init__(self, manager: ModelManager):
        self._manager = manager

    def GetModelStatus(self, request, context):
        try:
            if not request.HasField("model_spec"):
                raise RequestError("INVALID_ARGUMENT", "Missing ModelSpec")
            spec = request.model_spec
            states = self._manager.states(spec.name, version=spec.version.value if spec.HasField("version") else None,
                                          label=spec.version_label or None)
        except RequestError as error:
            context.abort(getattr(grpc.StatusCode, error.code), error.message)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state, error in states:
            entry = response.model_version_status.add(version=version, state=state)
            # An empty status stands for OK, and a stock server writes it.
            entry.status.SetInParent()
            if error is not None:
                entry.status.error_code = error_codes_pb2.Code.Value(error[0])
                entry.status.error_message = error[1]
        return response

    def HandleReloadConfigRequest(self, request, context):
        try:
            self._manager.reload(model_configs(request.config))
        except RequestError as error:
            _LOG.error("The models were not reloaded: %s", error.message)
            context.abort(getattr(grpc.StatusCode, error.code), error.message)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response
