"""A request that a model server refused."""

from tfmeta.errors import ServingError


class RequestError(ServingError):
    """A status other than OK: raised inside the embedded server and, from the reply, by the client.

    Attributes:
      code: name of the gRPC status code, such as `INVALID_ARGUMENT`.
      message: the server's message, unchanged.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
