"""A process's part in a training on several replicas."""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfmeta.errors import RunError, TfmetaError
from trainer.distribution.cluster import Cluster

# What TensorFlow raises where another process cannot be reached any more. Collectives report a lost peer as any of
# them, depending on who notices first.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
         tf.errors.InternalError, tf.errors.FailedPreconditionError, tf.errors.UnknownError)


class Distribution:
    """The strategy of a training, and what its workers tell each other beside gradients.

    All workers have to call `from_chief`, `gather_texts` and `barrier` in the same order. With one worker they do
    without communication.

    Args:
      strategy: None for one device of one process.
      cluster: the workers.

    Attributes:
      strategy, cluster: see above.
    """

    def __init__(self, *, strategy: tf.distribute.Strategy | None = None, cluster: Cluster | None = None):
        self.strategy, self.cluster = strategy, cluster or Cluster()

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files, validates and reports."""
        return self.cluster.is_chief

    @property
    def num_workers(self) -> int:
        return self.cluster.num_workers

    @property
    def num_replicas(self) -> int:
        """Devices that share a meta-batch, over all workers."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    def scope(self) -> contextlib.AbstractContextManager:
        """In this scope variables are made that all replicas have; the chief's initial values count."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def from_chief(self, action: Callable[[], Any]) -> Any:
        """Calls something on the chief alone and returns its value on every worker; the others wait.

        Args:
          action: returns what JSON can hold.

        Raises:
          TfmetaError: what the action raised, on the chief.
          RunError: with the same words, on the other workers.
        """
        if self.num_workers == 1:
            return action()
        value, error = None, None
        if self.is_chief:
            try:
                value = action()
            except TfmetaError as raised:
                error = raised
        told = json.loads(self._broadcast(json.dumps({"value": value, "error": error and str(error)})))
        if error is not None:
            raise error
        if told["error"] is not None:
            raise RunError(f"{told['error']} ({self.cluster.name(0)} says so.)")
        return told["value"]

    def gather_texts(self, text: str) -> list[str]:
        """Returns every worker's text, by the workers' numbers."""
        if self.num_workers == 1:
            return [text]
        data = np.frombuffer(text.encode("utf-8"), np.uint8)
        lengths = np.zeros(self.num_workers, np.float32)
        lengths[self.cluster.number] = len(data)
        lengths = self._sum(lengths).astype(np.int64)
        rows = np.zeros((self.num_workers, lengths.max()), np.float32)
        rows[self.cluster.number, :len(data)] = data
        rows = self._sum(rows.reshape(-1)).astype(np.uint8).reshape(rows.shape)
        return [row[:length].tobytes().decode("utf-8") for row, length in zip(rows, lengths, strict=True)]

    def barrier(self) -> None:
        """Waits until all workers are here."""
        if self.num_workers > 1:
            self._sum(np.zeros(1, np.float32))

    def part(self) -> None:
        """Waits until all workers are done; one that cannot be reached any more has left already."""
        with contextlib.suppress(RunError):
            self.barrier()

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Turns the loss of another worker into a RunError; only where there are several workers."""
        try:
            yield
        except _LOST as error:
            if self.num_workers == 1:
                raise
            raise RunError(
                f"Training requires all {self.num_workers} workers: {self.cluster.name(self.cluster.number)} has lost "
                f"another one ({type(error).__name__}). Start all workers again with --resume; they go on from the "
                "last checkpoint.") from error

    def _broadcast(self, text: str) -> str:
        """Returns the chief's text."""
        data = np.frombuffer(text.encode("utf-8"), np.uint8) if self.is_chief else np.zeros(0, np.uint8)
        length = int(self._sum(np.array([len(data)], np.float32))[0])
        values = np.zeros(length, np.float32)
        values[:len(data)] = data
        return self._sum(values).astype(np.uint8).tobytes().decode("utf-8")

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Adds up one vector `[N]` float32 of each worker; N is the same for all."""
        with self.guard():
            return self._sum_function(tf.constant(values)).numpy()

    @functools.cached_property
    def _sum_function(self):
        """Bytes travel as float32, which every collective knows on every device."""
        local = len(self.strategy.extended.worker_devices)

        def share(values):
            context = tf.distribute.get_replica_context()
            first = tf.equal(context.replica_id_in_sync_group % local, 0)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(first, values, tf.zeros_like(values)))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def total(values):
            return self.strategy.experimental_local_results(self.strategy.run(share, args=(values,)))[0]

        return total
