"""tensorflow.serving.PredictionService on an event loop, for models that merge requests."""

import asyncio
import collections
import concurrent.futures
import contextlib
import time

from tensorflow_serving.apis import predict_pb2

from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.prediction_service import (
    PredictionService,
    abort_arguments,
    check_filter,
    failure,
    lease_servable,
    read_inputs,
)
from tfmeta.serving.server_metrics import UNKNOWN, ServerMetrics


class MergedPredictionService(PredictionService):
    """Answers as `PredictionService`; a request that waits for its batch holds no thread.

    The event loop reads requests and sends replies; the thread that runs a batch encodes all its replies and wakes the
    loop once. What cannot be merged runs in a thread of the pool.

    Args:
      manager: the loaded models.
      loop: the event loop of the server.
      pool: for requests that run alone.
      tensor_content, metrics: as `PredictionService`.
    """

    def __init__(self, manager: ModelManager, *, loop: asyncio.AbstractEventLoop,
                 pool: concurrent.futures.Executor, tensor_content: bool = False,
                 metrics: ServerMetrics | None = None):
        super().__init__(manager, tensor_content=tensor_content, metrics=metrics)
        self._loop, self._pool = loop, pool
        self._ended: collections.deque[tuple[asyncio.Future, object]] = collections.deque()
        self._rung = False

    async def Predict(self, request, context):
        begun = time.perf_counter()
        served = [UNKNOWN, UNKNOWN, UNKNOWN]
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        response, code, message = None, "OK", ""
        try:
            found = await self._begin(request, served, deadline)
            if isinstance(found, Exception):
                raise found
            response = found
        except asyncio.CancelledError:
            # The client has gone; its batch runs on.
            code = "CANCELLED"
            raise
        except Exception as error:
            code, message = failure(error)
        finally:
            if self._metrics is not None:
                self._metrics.request(*served, api="grpc", code=code, seconds=time.perf_counter() - begun)
        if response is None:
            await context.abort(*abort_arguments(code, message))
        return response

    def _begin(self, request, served: list, deadline: float | None) -> asyncio.Future:
        """Begins a request; the future has the reply or, as its result too, the error."""
        with contextlib.ExitStack() as stack:
            servable = stack.enter_context(lease_servable(self._manager, request))
            name, signature = self._signature(servable, request, served)
            inputs, wanted = read_inputs(signature, request), check_filter(signature, request.output_filter)
            future, held = self._loop.create_future(), stack.pop_all()

            def ended(results, error: Exception | None) -> None:
                try:
                    reply = error or self._reply(servable, name, results)
                except Exception as late:  # Whatever it is, the client is not to wait for ever.
                    reply = late
                held.close()
                self._end(future, reply)

            def alone() -> None:
                if future.cancelled():  # The client has gone while the request waited for a thread.
                    held.close()
                    return
                try:
                    results, error = servable.run(name, inputs, wanted, deadline=deadline), None
                except Exception as failed:
                    results, error = None, failed
                ended(results, error)

            try:
                submit = None if wanted else getattr(servable, "submit", None)
                if submit is None or not submit(name, inputs, deadline=deadline, done=ended):
                    self._pool.submit(alone)
            except Exception:
                held.close()
                raise
        return future

    def _end(self, future: asyncio.Future, reply: predict_pb2.PredictResponse | Exception) -> None:
        """Comes from any thread; the loop is woken once for all that end before it has looked."""
        self._ended.append((future, reply))
        if not self._rung:
            self._rung = True
            with contextlib.suppress(RuntimeError):  # A loop that has been closed has nobody to answer.
                self._loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        # Before the queue is looked at: what comes later rings again.
        self._rung = False
        while self._ended:
            future, reply = self._ended.popleft()
            if not future.done():
                future.set_result(reply)
