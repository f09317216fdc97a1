"""Meta-learned recommendation: adapt to a new user inside one TensorFlow Serving request.

Importing this package does not import TensorFlow; names below load on first use.
"""

import importlib

__version__ = "0.1.0"

# Public name -> module that defines it.
_LAZY = {
    "FeatureSpec": "tfmeta.data.feature_spec",
    "PreparedData": "tfmeta.data.prepared_data",
    "Schema": "tfmeta.data.schema",
    "prepare": "tfmeta.data.prepare",
    "Recommender": "tfmeta.models.recommender",
    "build_recommender": "tfmeta.models.recommender",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f"module 'tfmeta' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__():
    return sorted(__all__)
