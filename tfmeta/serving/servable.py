"""One loaded version of a model."""

import threading
import time

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from tfmeta.errors import ServingError
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.signature_call import SignatureCall

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
        self._calls: dict[tuple, SignatureCall] = {}
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

    def call(self, signature_name: str, output_names: tuple[str, ...] = ()) -> SignatureCall:
        """Returns a signature with the outputs wanted (empty for all), ready to be called; RequestError if unknown."""
        signature = self.signature(signature_name)
        # Sorted, so that every order of one filter shares a callable and a queue.
        outputs = tuple(sorted(output_names or signature.outputs))
        key = (signature_name or "serving_default", outputs)
        made = self._calls.get(key)
        if made is None:
            with self._lock:
                if key not in self._calls:
                    self._calls[key] = SignatureCall(key[0], signature, outputs=outputs,
                                                     run=self._callable(signature, outputs))
                made = self._calls[key]
        return made

    def run(self, signature_name: str, inputs: dict[str, np.ndarray], output_names: tuple[str, ...] = (), *,
            deadline: float | None = None) -> dict[str, np.ndarray]:
        """Runs a signature in the calling thread; safe from many threads.

        Args:
          signature_name: key of the signature.
          inputs: one array per input of the signature, strings as bytes in object arrays.
          output_names: the outputs wanted; empty for all.
          deadline: `time.monotonic()` after which it is not to be run.

        Returns:
          Arrays by output name.

        Raises:
          RequestError: INVALID_ARGUMENT on a wrong type, DEADLINE_EXCEEDED if it is too late, otherwise the failing
            op's own code and message.
        """
        call = self.call(signature_name, output_names)
        values = call.values(inputs)
        if deadline is not None and time.monotonic() >= deadline:
            raise RequestError("DEADLINE_EXCEEDED", "The request's deadline passed before it could run.")
        return call.named(call.run(values))

    def _callable(self, signature, outputs: tuple[str, ...]):
        made = self._session._make_callable_from_options(config_pb2.CallableOptions(
            feed=sorted(info.name for info in signature.inputs.values()),
            fetch=[signature.outputs[o].name for o in outputs],
            run_options=config_pb2.RunOptions(inter_op_thread_pool=-1)))

        def run(values: list[np.ndarray]) -> list[np.ndarray]:
            try:
                return made(*values)
            except tf.errors.OpError as error:
                raise RequestError(_CODES.get(error.error_code, "UNKNOWN"), error.message) from None
            except UnicodeDecodeError as error:
                # The op quotes bytes of the request that are no text, which TensorFlow's Python cannot pass on.
                raise RequestError("INVALID_ARGUMENT", error.object.decode("utf-8", "replace")) from None
        return run

    def close(self) -> None:
        """Frees the session; later calls fail."""
        self._calls.clear()
        self._session.close()
