"""Writes the graph: one concrete function per signature over shared variables and tables."""

import tensorflow as tf

from export.signatures import SIGNATURES
from export.signatures.context import SignatureContext


class ServingModule(tf.Module):
    """Holds what the signatures' graphs refer to, so that the SavedModel saves and restores it.

    Keras layers are not tracked themselves: their variables are, those that a signature reads. So the file holds
    no Keras metadata, and no weights that only training or the catalogue's encoding needed.

    Args:
      context: what the signatures are built from.
      default_signature: key of the one that is also `serving_default`.
    """

    def __init__(self, context: SignatureContext, *, default_signature: str):
        super().__init__(name="tfmeta_serving")
        self._users, self._items = context.users, context.items
        functions = {key: _concrete(module, context) for key, module in _modules().items()}
        functions["serving_default"] = functions[default_signature]
        # A tf.Module only finds variables that are attributes.
        self.slow_weights = list({id(v): v for f in functions.values() for v in f.graph.variables}.values())
        self._functions = functions

    def save(self, path: str) -> None:
        """Writes the SavedModel into a directory."""
        functions = dict(self._functions)
        tf.saved_model.save(self, path, signatures=functions)


def _modules() -> dict:
    import importlib

    return {key: importlib.import_module(name) for key, name in SIGNATURES.items()}


def _concrete(module, context: SignatureContext):
    specs = module.input_specs(context)
    run = module.build(context)

    def call(**inputs):
        return run(inputs)

    call.__name__ = module.__name__.rsplit(".", 1)[-1]
    return tf.function(call, autograph=False).get_concrete_function(**specs)
