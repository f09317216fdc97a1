"""Refuses bytes that are no message as gRPC's servers with threads do."""

import inspect

import grpc

_REFUSAL = (grpc.StatusCode.INTERNAL, "Exception deserializing request!")


class MalformedRequestInterceptor(grpc.aio.ServerInterceptor):
    """Answers INTERNAL where a request's bytes cannot be read; `grpc.aio` itself calls that a failure of the server."""

    async def intercept_service(self, continuation, handler_call_details):
        handler = await continuation(handler_call_details)
        if handler is None or not handler.unary_unary:
            return handler
        read, answer = handler.request_deserializer, handler.unary_unary

        if inspect.iscoroutinefunction(answer):
            async def checked(data, context):
                try:
                    request = read(data)
                except Exception:  # Whatever a message class raises.
                    await context.abort(*_REFUSAL)
                return await answer(request, context)
        else:
            def checked(data, context):
                try:
                    request = read(data)
                except Exception:  # Whatever a message class raises.
                    context.abort(*_REFUSAL)
                return answer(request, context)

        return grpc.unary_unary_rpc_method_handler(checked, response_serializer=handler.response_serializer)
