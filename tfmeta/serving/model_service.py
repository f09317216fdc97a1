"""tensorflow.serving.ModelService: GetModelStatus."""

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.request_error import RequestError


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Reports the versions of a model; the set of models is fixed at start, so a reload is UNIMPLEMENTED.

    Args:
      manager: the loaded models.
    """

    def __init__(self, manager: ModelManager):
        self._manager = manager

    def GetModelStatus(self, request, context):
        try:
            if not request.HasField("model_spec"):
                raise RequestError("INVALID_ARGUMENT", "Missing ModelSpec")
            spec = request.model_spec
            if spec.version_label:
                raise RequestError("INVALID_ARGUMENT",
                                   f"Unrecognized servable version label: {spec.version_label}")
            states = self._manager.states(spec.name,
                                          version=spec.version.value if spec.HasField("version") else None)
        except RequestError as error:
            context.abort(getattr(grpc.StatusCode, error.code), error.message)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in states:
            # An empty status stands for OK, and a stock server writes it.
            response.model_version_status.add(version=version, state=state).status.SetInParent()
        return response
