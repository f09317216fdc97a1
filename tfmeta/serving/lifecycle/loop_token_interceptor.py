"""Refuses gRPC calls without the server's token, on an event loop."""

import grpc

from tfmeta.serving.lifecycle.bearer_token import BearerToken
from tfmeta.serving.lifecycle.token_interceptor import REFUSAL, accepts


class LoopTokenInterceptor(grpc.aio.ServerInterceptor):
    """`TokenInterceptor` for a server of `grpc.aio`.

    Args:
      token: the server's.
    """

    def __init__(self, token: BearerToken):
        self._token = token
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    async def intercept_service(self, continuation, handler_call_details):
        if accepts(self._token, handler_call_details):
            return await continuation(handler_call_details)
        return self._refusal


async def _refuse(request, context):
    await context.abort(*REFUSAL)
