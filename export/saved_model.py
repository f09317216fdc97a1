"""Writes the graph: one concrete function per signature over shared variables and tables."""

import dataclasses
import importlib
import os
from collections.abc import Callable

import tensorflow as tf

from export.signatures import SIGNATURES
from export.signatures.context import SignatureContext

# Described with all others before it is made, because it carries their description.
_METADATA = "metadata"


class ServingModule(tf.Module):
    """Holds what the signatures' graphs refer to, so that the SavedModel saves and restores it.

    Keras layers are not tracked themselves: their variables are, those that a signature reads. So the file holds
    no Keras metadata, and no weights that only training or the catalogue's encoding needed.

    Args:
      context: what the signatures are built from.
      default_signature: key of the one that is also `serving_default`.
      signatures: keys, of those that the model has; None for all.
      documents: description of all signatures (see `description`) -> the documents of the signature `metadata`, which
        is left out where this is None.

    Attributes:
      description: key -> {"inputs": {name: {"dtype", "shape"}}, "outputs": the same}, `serving_default` first.
    """

    def __init__(self, context: SignatureContext, *, default_signature: str,
                 signatures: tuple[str, ...] | None = None,
                 documents: Callable[[dict], dict[str, str]] | None = None):
        super().__init__(name="tfmeta_serving")
        self._users, self._items = context.users, context.items
        modules = {key: importlib.import_module(name) for key, name in SIGNATURES.items()
                   if signatures is None or key in signatures}
        modules = {key: module for key, module in modules.items()
                   if not hasattr(module, "available") or module.available(context)}
        late = modules.pop(_METADATA, None)
        functions = {key: _concrete(module, context) for key, module in modules.items()}
        self.description = {key: _describe(functions[key], modules[key], context) for key in modules}
        self.description = {"serving_default": self.description[default_signature], **self.description}
        if late is not None and documents is not None:
            self.description[_METADATA] = late.DESCRIPTION
            functions[_METADATA] = _concrete(late, dataclasses.replace(
                context, documents=documents(self.description)))
        functions["serving_default"] = functions[default_signature]
        # A tf.Module only finds variables that are attributes.
        self.slow_weights = list({id(v): v for f in functions.values() for v in f.graph.variables}.values())
        self._functions = functions

    def save(self, path: str) -> None:
        """Writes the SavedModel into a directory."""
        # Nobody differentiates a served graph; gradients that operations bring along would be saved and loaded with it.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(self, path, signatures=dict(self._functions), options=options)
        _forget_gradients(path)


def _concrete(module, context: SignatureContext):
    specs = module.input_specs(context)
    run = module.build(context)

    def call(**inputs):
        return run(inputs)

    call.__name__ = module.__name__.rsplit(".", 1)[-1]
    return tf.function(call, autograph=False).get_concrete_function(**specs)


def _describe(function, module, context: SignatureContext) -> dict:
    """Describes inputs and outputs as the graph has them; a module may know more of the inputs' shapes."""
    def describe(specs, shapes):
        return {name: {"dtype": spec.dtype.name, "shape": shapes.get(name, spec.shape.as_list())}
                for name, spec in sorted(specs.items())}

    shapes = module.client_shapes(context) if hasattr(module, "client_shapes") else {}
    return {"inputs": describe(function.structured_input_signature[1], shapes),
            "outputs": describe(function.structured_outputs, {})}


def _forget_gradients(path: str) -> None:
    """Drops the names of custom gradients: without their functions a loader warns of each."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.saved_model import fingerprinting_utils

    file = os.path.join(path, "saved_model.pb")
    with open(file, "rb") as stream:
        model = saved_model_pb2.SavedModel.FromString(stream.read())
    graph = model.meta_graphs[0].graph_def
    nodes = [node for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for node in nodes
             if "_gradient_op_type" in node.attr]
    if not nodes:
        return
    for node in nodes:
        del node.attr["_gradient_op_type"]
    with open(file, "wb") as stream:
        stream.write(model.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(path)
