"""Drives operations in the calling thread."""

import abc
import concurrent.futures
import contextvars
import threading
import time
from typing import Any

from tfmeta.serving.client.base_client import BaseClient
from tfmeta.serving.client.calls import PredictCall, PredictReply, Sleep, StatusCall, StatusReply
from tfmeta.serving.client.deadline import Deadline
from tfmeta.serving.client.operations import Operation
from tfmeta.serving.request_error import RequestError


class BlockingClient(BaseClient):
    """A client whose calls return when they are done; safe from many threads.

    A transport has `_send(call, timeout, headers)`, which raises RequestError.
    """

    def __init__(self, address: str, **arguments):
        super().__init__(address, **arguments)
        self._sleep = time.sleep
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()

    def close(self) -> None:
        """Closes the connection."""
        with self._pool_lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @abc.abstractmethod
    def _send(self, call: PredictCall | StatusCall, timeout: float, headers: list[tuple[str, str]]
              ) -> PredictReply | StatusReply:
        """Performs one call within a timeout in seconds; what fails raises a `RequestError`."""

    def _run(self, operation: Operation, timeout: float | None) -> Any:
        deadline = Deadline(self.options.timeout if timeout is None else timeout, clock=self._clock)
        reply, error = None, None
        while True:
            try:
                asked = operation.send(reply) if error is None else operation.throw(error)
            except StopIteration as stop:
                return stop.value
            reply, error = None, None
            if isinstance(asked, Sleep):
                self._sleep(max(0.0, min(asked.seconds, deadline.left())))
                continue
            try:
                reply = self._send_all(asked, deadline)
            except RequestError as failed:
                error = failed

    def _send_all(self, calls: list, deadline: Deadline) -> list:
        if len(calls) == 1:
            return [self._attempt(calls[0], deadline)]
        # A context of its own for each, since one cannot be entered twice; spans stay children of the caller's.
        futures = [self._workers().submit(contextvars.copy_context().run, self._attempt, call, deadline)
                   for call in calls]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _attempt(self, call: PredictCall | StatusCall, deadline: Deadline) -> PredictReply | StatusReply:
        attempt = 1
        while True:
            try:
                timeout = deadline.remaining()
                with self._telemetry.span(call, attempt) as (headers, learned):
                    reply = self._send(call, timeout, [*self.options.call_headers(), *headers])
                    learned["tfmeta.version"] = getattr(reply, "version", None)
                    return reply
            except RequestError as error:
                wait = self.options.retry.delay(error.code, attempt=attempt, remaining=deadline.left(), rng=self._rng)
                if wait is None:
                    raise
            self._sleep(wait)
            attempt += 1

    def _workers(self) -> concurrent.futures.ThreadPoolExecutor:
        with self._pool_lock:
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(self.options.parallel,
                                                                   thread_name_prefix="tfmeta-client")
            return self._pool
