"""A loaded model whose concurrent requests are merged."""

import concurrent.futures
import threading
import typing
from collections.abc import Callable

import numpy as np

from tfmeta.serving.batching.batch_threads import BatchThreads
from tfmeta.serving.batching.batcher import Batcher
from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.request_error import RequestError

if typing.TYPE_CHECKING:
    from tfmeta.serving.servable import Servable
    from tfmeta.serving.server_metrics import ServerMetrics
    from tfmeta.serving.signature_call import SignatureCall

# Batches of a model that may wait at the same time, far beyond what the limits of requests let in.
_MOST_BATCHES = 4096


class BatchedServable:
    """Has the interface of `Servable`; `run` merges requests to one signature and one set of outputs.

    A request that cannot be merged without failing its neighbours, because its shapes contradict the signature, runs
    alone and gets the graph's own error.

    Args:
      servable: the loaded model; it is closed with this one.
      parameters: of batching.
      metrics: of the server, or None.
    """

    def __init__(self, servable: "Servable", parameters: BatchingParameters, *,
                 metrics: "ServerMetrics | None" = None):
        self.servable, self.parameters = servable, parameters
        self.name, self.version, self.path = servable.name, servable.version, servable.path
        self.signature_defs, self.signature = servable.signature_defs, servable.signature
        self._metrics = metrics
        self._threads = BatchThreads(parameters.num_batch_threads)
        self._batchers: dict[SignatureCall, Batcher] = {}
        self._lock = threading.Lock()
        # Threads are made as they are needed: one for each batch that runs or waits to.
        self._pool = concurrent.futures.ThreadPoolExecutor(_MOST_BATCHES, thread_name_prefix="batch")

    def run(self, signature_name: str, inputs: dict[str, np.ndarray], output_names: tuple[str, ...] = (), *,
            deadline: float | None = None) -> dict[str, np.ndarray]:
        """Runs a signature as `Servable.run`, merged with others.

        Raises:
          RequestError: as `Servable.run` and `Batcher.run`.
        """
        call = self.servable.call(signature_name, output_names)
        values = call.values(inputs)
        rows = call.rows(values)
        if not rows:
            return self.servable.run(signature_name, inputs, output_names, deadline=deadline)
        batcher = self._batchers.get(call)
        if batcher is None:
            batcher = self._make(call)
        return call.named(batcher.run(values, rows=rows, deadline=deadline))

    def submit(self, signature_name: str, inputs: dict[str, np.ndarray], *, deadline: float | None = None,
               done: Callable[[dict[str, np.ndarray] | None, RequestError | None], None]) -> bool:
        """Begins a request like `run` and returns at once.

        Args:
          signature_name, inputs, deadline: as `run`.
          done: is called once with the outputs by name, or with None and the error, in another thread.

        Returns:
          False, and nothing was begun, if the request cannot be merged with others.

        Raises:
          RequestError: if it was refused; `done` is then not called.
        """
        call = self.servable.call(signature_name)
        values = call.values(inputs)
        rows = call.rows(values)
        if not rows:
            return False
        batcher = self._batchers.get(call) or self._make(call)
        batcher.submit(values, rows=rows, deadline=deadline, pool=self._pool, done=lambda results, error: done(
            None if results is None else call.named(results), error))
        return True

    def _make(self, call: "SignatureCall") -> Batcher:
        with self._lock:
            if call not in self._batchers:
                observe = depth = None
                if self._metrics is not None:
                    observe, depth = self._metrics.batching(self.name, self.version, call.name)
                self._batchers[call] = Batcher(call.run, tensors=call.tensors, parameters=self.parameters,
                                               threads=self._threads, observe=observe, depth=depth)
            return self._batchers[call]

    def close(self) -> None:
        """Frees the model; later calls fail."""
        self._batchers.clear()
        self._pool.shutdown(wait=False)
        self.servable.close()
