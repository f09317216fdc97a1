"""Refuses gRPC calls without the server's token."""

import grpc

from tfmeta.serving.lifecycle.bearer_token import BearerToken

REFUSAL = (grpc.StatusCode.UNAUTHENTICATED, "The call requires the metadata 'authorization: Bearer TOKEN'")


class TokenInterceptor(grpc.ServerInterceptor):
    """Answers UNAUTHENTICATED before a message is read, unless the metadata `authorization` carries the token.

    Args:
      token: the server's.
    """

    def __init__(self, token: BearerToken):
        self._token = token
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    def intercept_service(self, continuation, handler_call_details):
        return continuation(handler_call_details) if accepts(self._token, handler_call_details) else self._refusal


def accepts(token: BearerToken, details: grpc.HandlerCallDetails) -> bool:
    """Tells whether a call's metadata carry the token."""
    return any(key == "authorization" and token.accepts(value) for key, value in details.invocation_metadata)


def _refuse(request, context):
    context.abort(*REFUSAL)
