"""The methods of gRPC services as several servers on one event loop call them."""

import inspect
import threading

import grpc

_MALFORMED = (grpc.StatusCode.INTERNAL, "Exception deserializing request!")
_FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")


class LoopHandlers(grpc.GenericRpcHandler):
    """Unary methods that refuse what gRPC's servers with threads refuse.

    Bytes that are no message get INTERNAL, which `grpc.aio` itself calls a failure of the server, and calls beyond a
    limit RESOURCE_EXHAUSTED, which `grpc.aio` counts for each server alone. Services are added as to a server.

    Args:
      most: calls that may be open, on all servers that have these handlers.
    """

    def __init__(self, most: int):
        self._open = threading.Semaphore(most)
        self._services: list[grpc.GenericRpcHandler] = []
        self._methods: dict[str, grpc.RpcMethodHandler] = {}

    def add_generic_rpc_handlers(self, handlers) -> None:
        """Adds services, as `grpc.Server` has it."""
        self._services.extend(handlers)

    def service(self, handler_call_details) -> grpc.RpcMethodHandler | None:
        method = handler_call_details.method
        if method not in self._methods:
            handler = next(filter(None, (s.service(handler_call_details) for s in self._services)), None)
            if handler is None:
                return None
            self._methods[method] = self._checked(handler)
        return self._methods[method]

    def _checked(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        limit, read, answer = self._open, handler.request_deserializer, handler.unary_unary

        if inspect.iscoroutinefunction(answer):
            async def call(data, context):
                if not limit.acquire(blocking=False):
                    await context.abort(*_FULL)
                try:
                    try:
                        request = read(data)
                    except Exception:  # Whatever a message class raises.
                        await context.abort(*_MALFORMED)
                    return await answer(request, context)
                finally:
                    limit.release()
        else:
            def call(data, context):
                if not limit.acquire(blocking=False):
                    context.abort(*_FULL)
                try:
                    try:
                        request = read(data)
                    except Exception:  # Whatever a message class raises.
                        context.abort(*_MALFORMED)
                    return answer(request, context)
                finally:
                    limit.release()

        return grpc.unary_unary_rpc_method_handler(call, response_serializer=handler.response_serializer)
