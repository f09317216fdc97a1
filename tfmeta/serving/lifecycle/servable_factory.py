"""Loads a version, with request batching where it is asked for."""

from typing import TYPE_CHECKING

from tfmeta.io import filesystem
from tfmeta.serving.batching.batched_servable import BatchedServable
from tfmeta.serving.batching.batching_parameters import BatchingParameters

if TYPE_CHECKING:
    from tfmeta.serving.servable import Servable

PER_MODEL_FILE = "batching_params.pbtxt"


class ServableFactory:
    """Called with name, version and directory, returns what answers the version's requests.

    Args:
      batching: parameters for every model, or None.
      per_model: a file `batching_params.pbtxt` in a version directory goes before `batching`, as with the stock
        server's `--enable_per_model_batching_parameters`.
      metrics: of the server, or None.
    """

    def __init__(self, batching: BatchingParameters | None = None, *, per_model: bool = False, metrics=None):
        self._batching, self._per_model, self._metrics = batching, per_model, metrics

    def __call__(self, name: str, version: int, path: str) -> "Servable | BatchedServable":
        """Returns a loaded version; ServingError if it does not load or its batching file is wrong."""
        # Wrong paths and options are told before the seconds that TensorFlow takes.
        from tfmeta.serving.servable import Servable

        parameters = self._batching
        file = filesystem.join(path, PER_MODEL_FILE)
        if self._per_model and filesystem.exists(file):
            parameters = BatchingParameters.read(file)
        servable = Servable(name, version, path)
        if parameters is None:
            return servable
        return BatchedServable(servable, parameters, metrics=self._metrics)
