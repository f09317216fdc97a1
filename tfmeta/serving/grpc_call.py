"""One call of a gRPC method, as `GrpcPort` passes it to the service."""

import logging
import time
from collections.abc import Callable
from typing import NoReturn

import grpc
from grpc._cython.cygrpc import (
    ReceiveCloseOnServerOperation,
    ReceiveMessageOperation,
    SendInitialMetadataOperation,
    SendMessageOperation,
    SendStatusFromServerOperation,
)

# What a method returns that calls `answer` or `refuse` itself.
LATER = object()
_NO_FLAGS = 0
# Bytes. A message travels in a header of 8 KiB at most, where other characters than ASCII take three times as much, and
# what a client sent may be quoted in it.
_MOST_DETAILS = 2000
# Seconds; what the library says of a call without a deadline lies far beyond.
_FOREVER = 1e12
_LOG = logging.getLogger("tfmeta.serving")


class GrpcCall:
    """Has what services use of `grpc.ServicerContext`, and may be answered later, from any thread.

    Args:
      event: with which the library began the call.
      handler: of its method; None for a call that is refused.
      answered: is called once when the reply is handed to the library.
      ended: is called once after that, when the client has the reply or has gone.

    Attributes:
      gone: whether the client has gone, for a call that is watched.
    """

    __slots__ = ("_answered", "_begun", "_code", "_details", "_ended", "_handler", "_message", "_replied", "_watched",
                 "gone")

    def __init__(self, event, handler: grpc.RpcMethodHandler | None, *, answered: Callable[[], None],
                 ended: Callable[[], None]):
        self._begun, self._handler, self._answered, self._ended = event, handler, answered, ended
        self._code = self._details = self._message = None
        self._watched = self.gone = self._replied = False

    @property
    def at_once(self) -> bool:
        """Whether its method is marked as one that returns at once."""
        return getattr(self._handler.unary_unary, "at_once", False)

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline, None without one."""
        remaining = self._begun.call_details.deadline - time.time()
        return None if remaining > _FOREVER else max(0.0, remaining)

    def invocation_metadata(self):
        """Pairs of key and value that the client sent."""
        return self._begun.invocation_metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status of the reply."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Sets the message of the reply's status."""
        self._details = details

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """Ends the method with an error for the client."""
        raise _AbortedError(code, details)

    def receive(self, then: Callable[["GrpcCall"], "GrpcCall | None"]) -> None:
        """Asks for the client's message; the event says what `then` does once it is there, or the client has gone."""
        def received(event) -> "GrpcCall | None":
            self._message = event.batch_operations[0].message()
            return then(self)
        if not self._start([ReceiveMessageOperation(_NO_FLAGS)], received):
            self.refuse(grpc.StatusCode.INTERNAL, "The message could not be received")

    def watch(self) -> None:
        """Keeps `gone` up to date from now on: a call that waits is not to run for nobody."""
        def closed(event) -> None:
            self.gone = bool(event.batch_operations[0].cancelled())
        self._watched = True
        self._start([ReceiveCloseOnServerOperation(_NO_FLAGS)], closed)

    def run(self) -> None:
        """Answers the message by the method, in this thread."""
        if self.gone:
            self.refuse(grpc.StatusCode.CANCELLED, "The client has gone")
            return
        if self._message is None:
            self.refuse(grpc.StatusCode.UNIMPLEMENTED, "The method requires exactly one request message")
            return
        try:
            request = self._handler.request_deserializer(self._message)
        except Exception:  # Whatever a message class raises.
            self.refuse(grpc.StatusCode.INTERNAL, "Exception deserializing request!")
            return
        finally:
            self._message = None
        try:
            response = self._handler.unary_unary(request, self)
        except _AbortedError as aborted:
            self.refuse(*aborted.args)
        except BaseException as error:  # Not even `sys.exit` in a method is to end the server's thread.
            if self._code is None:
                _LOG.exception("A method failed in the server itself")
            self.refuse(self._code or grpc.StatusCode.UNKNOWN,
                        self._details or f"Exception calling application: {error}")
        else:
            if response is not LATER:
                self.answer(response)

    def answer(self, response) -> None:
        """Sends the reply; a call is answered or refused once."""
        try:
            data = self._handler.response_serializer(response)
        except Exception:
            _LOG.exception("A reply could not be serialized")
            self.refuse(grpc.StatusCode.INTERNAL, "Failed to serialize response!")
        else:
            self._finish(grpc.StatusCode.OK, "", SendMessageOperation(data, _NO_FLAGS))

    def refuse(self, code: grpc.StatusCode, details: str) -> None:
        """Sends an error instead of a reply; details beyond 2,000 bytes are cut."""
        self._finish(code, details)

    def _finish(self, code: grpc.StatusCode, details: str, *message) -> None:
        if self._replied:
            raise RuntimeError("The call has been answered already.")
        self._replied = True
        operations = [SendInitialMetadataOperation(None, _NO_FLAGS), *message,
                      SendStatusFromServerOperation(None, code.value[0], _cut(details), _NO_FLAGS)]
        if not self._watched:
            # Of no use any more, but the library keeps a call until somebody has asked.
            operations.append(ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._answered()
        if not self._start(operations, lambda _: self._ended()):
            self._ended()

    def _start(self, operations: list, then: Callable) -> bool:
        """Has the library do something; returns False, and `then` is not called, if it refuses to."""
        error = self._begun.call.start_server_batch(operations, then)
        if error:
            _LOG.error("The gRPC library refused an operation of a call: error %s", error)
        return not error


def _cut(details: str) -> bytes:
    """Returns a message as bytes that fit into a header."""
    encoded = details.encode("utf-8", "replace")
    if len(encoded) <= _MOST_DETAILS:
        return encoded
    return f"{encoded[:_MOST_DETAILS].decode('utf-8', 'ignore')}... ({len(encoded)} bytes)".encode()


class _AbortedError(Exception):
    pass
