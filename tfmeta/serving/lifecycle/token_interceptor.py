"""Refuses gRPC calls without the server's token."""

import grpc

from tfmeta.serving.lifecycle.bearer_token import BearerToken


class TokenInterceptor(grpc.ServerInterceptor):
    """Answers UNAUTHENTICATED before a message is read, unless the metadata `authorization` carries the token.

    Args:
      token: the server's.
    """

    def __init__(self, token: BearerToken):
        self._token = token
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    def intercept_service(self, continuation, handler_call_details):
        for key, value in handler_call_details.invocation_metadata:
            if key == "authorization" and self._token.accepts(value):
                return continuation(handler_call_details)
        return self._refusal


def _refuse(request, context):
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "The call requires the metadata 'authorization: Bearer TOKEN'")
