"""Client without TensorFlow and embedded server; names below load on first use."""

import importlib

_LAZY = {
    "AsyncClient": "tfmeta.serving.client.async_client",
    "Client": "tfmeta.serving.client.grpc_client",
    "EmbeddedServer": "tfmeta.serving.server",
    "RequestError": "tfmeta.serving.request_error",
    "RestClient": "tfmeta.serving.client.rest_client",
}

__all__ = list(_LAZY)


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'tfmeta.serving' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
