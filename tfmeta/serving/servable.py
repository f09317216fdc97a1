"""One loaded version of a model."""

import threading

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from tfmeta.errors import ServingError
from tfmeta.serving import tensor_codec
from tfmeta.serving.request_error import RequestError

# Names of tf.errors codes are those of gRPC, except for the spelling of one.
_CODES = {code: name for name, code in vars(tf.errors).items() if name.isupper() and isinstance(code, int)}


class Servable:
    """A SavedModel under a TensorFlow-1 session: the loader and the execution path of TensorFlow Serving.

    Each pair of signature and outputs becomes one session callable that runs in the caller's thread, which saves
    the hand-over between threads and is the fastest way to call a graph from Python.

    Args:
      name: the model's name.
      version: its version number.
      path: the version directory.

    Raises:
      ServingError: if the directory holds no SavedModel that loads.
    """

    def __init__(self, name: str, version: int, path: str):
        self.name, self.version, self.path = name, version, path
        self._graph = tf.Graph()
        # One request runs on one thread and requests run side by side: sharing out the small products of a task's
        # own weights costs several times what it saves.
        self._session = tf.compat.v1.Session(graph=self._graph, config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, use_per_session_threads=True))
        try:
            with self._graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            self._session.close()
            raise ServingError(f"Model '{name}' requires a SavedModel with tag 'serve' in '{path}': "
                               f"{str(error).splitlines()[0]}") from None
        self.signature_defs = dict(meta_graph.signature_def)
        self._callables: dict[tuple, object] = {}
        self._lock = threading.Lock()

    def signature(self, name: str):
        """Returns the SignatureDef; an empty name means `serving_default`.

        Raises:
          RequestError: FAILED_PRECONDITION for an unknown signature.
        """
        name = name or "serving_default"
        signature = self.signature_defs.get(name)
        if signature is None or not signature.inputs:
            raise RequestError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return signature

    def run(self, signature_name: str, inputs: dict[str, np.ndarray],
            output_names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        """Runs a signature in the calling thread; safe from many threads.

        Args:
          signature_name: key of the signature.
          inputs: one array per input of the signature, strings as bytes in object arrays.
          output_names: the outputs wanted; empty for all.

        Returns:
          Arrays by output name.

        Raises:
          RequestError: INVALID_ARGUMENT on a wrong type, otherwise the failing op's own code and message.
        """
        signature = self.signature(signature_name)
        outputs = output_names or tuple(signature.outputs)
        feeds, call = self._callable(signature_name or "serving_default", signature, outputs)
        values = []
        for position, (alias, number) in enumerate(feeds):
            value = inputs[alias]
            if value.dtype != tensor_codec.TYPES[number][1]:
                raise RequestError("INVALID_ARGUMENT",
                                   f"Expects arg[{position}] to be {tensor_codec.type_name(number)} but "
                                   f"{_name_of(value.dtype)} is provided")
            values.append(value)
        try:
            results = call(*values)
        except tf.errors.OpError as error:
            raise RequestError(_CODES.get(error.error_code, "UNKNOWN"), error.message) from None
        return dict(zip(outputs, results, strict=True))

    def _callable(self, name: str, signature, outputs: tuple[str, ...]):
        key = (name, outputs)
        made = self._callables.get(key)
        if made is None:
            with self._lock:
                if key not in self._callables:
                    order = sorted(signature.inputs.items(), key=lambda item: item[1].name)
                    options = config_pb2.CallableOptions(
                        feed=[info.name for _, info in order],
                        fetch=[signature.outputs[o].name for o in outputs],
                        run_options=config_pb2.RunOptions(inter_op_thread_pool=-1))
                    self._callables[key] = ([(alias, info.dtype) for alias, info in order],
                                            self._session._make_callable_from_options(options))
                made = self._callables[key]
        return made

    def close(self) -> None:
        """Frees the session; later calls fail."""
        self._callables.clear()
        self._session.close()


def _name_of(dtype: np.dtype) -> str:
    for _, (name, known, _) in tensor_codec.TYPES.items():
        if dtype == known:
            return name
    return str(dtype)
