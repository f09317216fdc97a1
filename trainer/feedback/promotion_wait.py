"""Waits for a server to load a version."""

import time

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tfmeta.errors import ServingError

_POLL = 0.2


def wait_until_available(server: str, *, model: str, version: int, seconds: float) -> None:
    """Returns when a server says that a version is AVAILABLE.

    Args:
      server: its gRPC address, `host:port`.
      model, version: to wait for.
      seconds: longest wait.

    Raises:
      ServingError: if the version is not there in time; the message has what the server said last.
    """
    deadline, said = time.monotonic() + seconds, "nothing"
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    with grpc.insecure_channel(server) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        while time.monotonic() < deadline:
            try:
                reply = stub.GetModelStatus(request, timeout=min(10.0, max(0.1, deadline - time.monotonic())))
            except grpc.RpcError as error:
                said = f"{error.code().name}: {error.details()}"
            else:
                states = {s.version: get_model_status_pb2.ModelVersionStatus.State.Name(s.state)
                          for s in reply.model_version_status}
                if states.get(version) == "AVAILABLE":
                    return
                said = ", ".join(f"version {number} {state}" for number, state in sorted(states.items())) or "nothing"
            time.sleep(_POLL)
    raise ServingError(f"Server '{server}' requires version {version} of '{model}' AVAILABLE within {seconds:g} s; it "
                       f"said {said}. Does it poll the file? The version stays listed; promote again when it is there.")
