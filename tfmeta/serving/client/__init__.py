"""Clients of a model server, without TensorFlow; names below load on first use."""

import importlib

_LAZY = {
    "AccessDenied": "errors",
    "AsyncClient": "async_client",
    "Client": "grpc_client",
    "ClientOptions": "client_options",
    "DeadlineExceeded": "errors",
    "Exhausted": "errors",
    "Explanation": "explanation",
    "InvalidRequest": "errors",
    "KeepAlive": "keep_alive",
    "ModelDescription": "model_description",
    "NotFound": "errors",
    "Recommendations": "recommendations",
    "RestClient": "rest_client",
    "RetryPolicy": "retry_policy",
    "Scores": "scores",
    "StatusError": "errors",
    "Tls": "tls",
    "Unavailable": "errors",
    "UserState": "user_state",
}

__all__ = list(_LAZY)


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'tfmeta.serving.client' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tfmeta.serving.client.{_LAZY[name]}"), name)
