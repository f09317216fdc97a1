"""The queue of one signature under request batching."""

import collections
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from tfmeta.serving.batching.batch_threads import BatchThreads
from tfmeta.serving.batching.batching_parameters import BatchingParameters
from tfmeta.serving.batching.merge import merge, split
from tfmeta.serving.request_error import RequestError

# Takes the outputs, or None and the error.
Done = Callable[[list[np.ndarray] | None, RequestError | None], None]
_LOG = logging.getLogger("tfmeta.serving")


class _Task:
    """A request: its inputs, and a lock that is released when it has a result or a batch to lead.

    One that nobody waits for has `done`, which is then called as well.
    """

    __slots__ = ("deadline", "done", "error", "result", "rows", "values", "wake")

    def __init__(self, values: list[np.ndarray], rows: int, deadline: float | None, done: "Done | None" = None):
        self.values, self.rows, self.deadline, self.done = values, rows, deadline, done
        self.result = self.error = None
        self.wake = threading.Lock()
        self.wake.acquire()


class _Batch:
    """Requests that will run together; the first one leads unless another takes the batch before."""

    __slots__ = ("opened", "promoted", "rows", "started", "tasks")

    def __init__(self, opened: float):
        self.tasks: list[_Task] = []
        self.rows, self.opened = 0, opened
        # A promoted batch has a slot and waits for its leader to wake up; it may still be joined.
        self.promoted = self.started = False


class Batcher:
    """Merges concurrent requests to one signature with one set of outputs.

    There is no thread of its own: the first request of a batch runs it, or the one that fills it up, in its caller's
    thread (of `submit`, one of its pool's), and wakes or tells the others. A request that finds nothing running at all
    runs at once.

    Args:
      run: takes one array per input and returns one per output.
      tensors: names of the inputs, for messages.
      parameters: of batching.
      threads: the slots, shared by the queues of a model.
      observe: is told requests, rows and rows after filling up of each batch that runs.
      depth: is told by how many requests the queue grew or shrank.
    """

    def __init__(self, run: Callable[[list[np.ndarray]], list[np.ndarray]], *, tensors: tuple[str, ...],
                 parameters: BatchingParameters, threads: BatchThreads,
                 observe: Callable[[int, int, int], None] | None = None,
                 depth: Callable[[int], None] | None = None):
        self._run, self._tensors, self._parameters, self._threads = run, tensors, parameters, threads
        self._observe, self._depth = observe, depth
        self._timeout = parameters.batch_timeout_micros / 1e6
        self._batches: collections.deque[_Batch] = collections.deque()
        with threads.lock:
            threads.add(self)

    def run(self, values: list[np.ndarray], *, rows: int, deadline: float | None = None) -> list[np.ndarray]:
        """Runs a request, merged with others where there are any.

        Args:
          values: one array `[rows, ...]` per input.
          rows: of the request.
          deadline: `time.monotonic()` after which it is not to be run.

        Returns:
          One array `[rows, ...]` per output.

        Raises:
          RequestError: the batch's own, alike for all its requests; INVALID_ARGUMENT for more rows than a batch may
            have, RESOURCE_EXHAUSTED if the queue is full, DEADLINE_EXCEEDED if it did not come to run.
        """
        task = _Task(values, rows, deadline)
        batch, leads = self._admit(task)
        if not leads:
            if batch.tasks[0] is task:
                leads = self._wait(task, batch)
            else:
                task.wake.acquire()
        if leads:
            self._execute(batch)
        if task.error is not None:
            raise RequestError(*task.error)
        return task.result

    def submit(self, values: list[np.ndarray], *, rows: int, deadline: float | None = None, done: Done,
               pool: concurrent.futures.Executor) -> None:
        """Begins a request like `run` and returns at once; its batch runs in a thread of `pool`, one a batch.

        Args:
          values, rows, deadline: as `run`.
          done: is called once, in a thread of any request of the batch.
          pool: with threads for as many batches as may wait.

        Raises:
          RequestError: INVALID_ARGUMENT and RESOURCE_EXHAUSTED as `run`; other errors go to `done`.
        """
        task = _Task(values, rows, deadline, done)
        batch, leads = self._admit(task)
        if leads:
            pool.submit(self._execute, batch)
        elif batch.tasks[0] is task:
            pool.submit(lambda: self._execute(batch) if self._wait(task, batch) else None)

    def _admit(self, task: _Task) -> tuple[_Batch, bool]:
        """Returns the batch that a request has joined, and whether its caller is to run it now."""
        if task.rows > self._parameters.max_batch_size:
            raise RequestError("INVALID_ARGUMENT", f"Task size {task.rows} is larger than maximum input batch size "
                                                   f"{self._parameters.max_batch_size}")
        with self._threads.lock:
            batch = self._enqueue(task)
            leads = not batch.promoted and self._ready(batch) and self._threads.take()
            if leads:
                self._start(batch)
        return batch, leads

    def promote(self) -> bool:
        """Wakes the leader of the next batch that is ready; returns whether there is one. The lock is held."""
        for position, batch in enumerate(self._batches):
            if not batch.promoted:
                if self._ready(batch, closed=position < len(self._batches) - 1):
                    batch.promoted = True
                    batch.tasks[0].wake.release()
                    return True
                return False
        return False

    def _enqueue(self, task: _Task) -> _Batch:
        """Puts a request into the last batch that has room, or a new one. The lock is held."""
        batches = self._batches
        if not batches or batches[-1].rows + task.rows > self._parameters.max_batch_size:
            if batches and len(batches) >= max(1, self._parameters.max_enqueued_batches):
                raise RequestError("RESOURCE_EXHAUSTED",
                                   "The batch scheduling queue to which this task was submitted is full")
            batches.append(_Batch(time.monotonic() if self._timeout else 0.0))
        batch = batches[-1]
        batch.tasks.append(task)
        batch.rows += task.rows
        if self._depth is not None:
            self._depth(1)
        if len(batches) > 1 and len(batch.tasks) == 1:
            # The one before is closed now, and need not wait any longer.
            self._threads.dispatch()
        return batch

    def _ready(self, batch: _Batch, *, closed: bool = False) -> bool:
        return (closed or not self._timeout or batch.rows >= self._parameters.max_batch_size or self._threads.idle
                or time.monotonic() - batch.opened >= self._timeout)

    def _start(self, batch: _Batch) -> None:
        """Takes a batch out of the queue: nobody joins it any more. The lock is held."""
        batch.started = True
        self._batches.remove(batch)
        if self._depth is not None:
            self._depth(-len(batch.tasks))

    def _wait(self, task: _Task, batch: _Batch) -> bool:
        """Waits as the first of a batch; returns whether the caller has to run it."""
        threads = self._threads
        woken = self._timeout > 0 and task.wake.acquire(
            timeout=max(0.0, batch.opened + self._timeout - time.monotonic()))
        if not woken:
            with threads.lock:
                if self._timeout and not batch.promoted and not batch.started and threads.take():
                    self._start(batch)
                    return True
            task.wake.acquire()
        with threads.lock:
            if batch.started:
                return False
            self._start(batch)
            return True

    def _execute(self, batch: _Batch) -> None:
        """Runs a batch that has a slot, and hands out what came of it."""
        now = time.monotonic()
        tasks = [t for t in batch.tasks if t.deadline is None or t.deadline > now]
        try:
            if tasks:
                self._compute(tasks)
        except RequestError as error:
            for task in tasks:
                task.error = (error.code, error.message)
        except Exception as error:  # Whatever it is, those who wait must not wait for ever.
            for task in tasks:
                task.error = ("INTERNAL", f"{type(error).__name__}: {error}")
        finally:
            with self._threads.lock:
                self._threads.release()
            for task in batch.tasks:
                if task.result is None and task.error is None:
                    task.error = ("DEADLINE_EXCEEDED", "The request's deadline passed before it could run.")
            for task in batch.tasks:
                # The leader's own lock may be free already.
                if task.wake.locked():
                    task.wake.release()
                if task.done is not None:
                    self._tell(task)

    @staticmethod
    def _tell(task: _Task) -> None:
        try:
            task.done(task.result, None if task.error is None else RequestError(*task.error))
        except Exception:  # The others of the batch are still to be told.
            _LOG.exception("A request's result could not be delivered")

    def _compute(self, tasks: list[_Task]) -> None:
        sizes = [t.rows for t in tasks]
        count = sum(sizes)
        rows = self._parameters.round_up(count)
        if self._observe is not None:
            self._observe(len(tasks), count, rows)
        if len(tasks) == 1 and rows == count:
            tasks[0].result = self._run(tasks[0].values)
            return
        merged = merge([t.values for t in tasks], rows=rows, pad=self._parameters.pad_variable_length_inputs,
                       tensors=self._tensors)
        for task, result in zip(tasks, split(self._run(merged), sizes, rows=rows), strict=True):
            task.result = result
