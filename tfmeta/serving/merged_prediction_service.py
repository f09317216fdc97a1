"""tensorflow.serving.PredictionService for models that merge requests."""

import concurrent.futures
import contextlib
import time
from collections.abc import Callable

from tfmeta.serving.grpc_call import LATER, GrpcCall
from tfmeta.serving.model_manager import ModelManager
from tfmeta.serving.prediction_service import (
    PredictionService,
    abort_arguments,
    check_filter,
    failure,
    lease_servable,
    read_inputs,
)
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.server_metrics import UNKNOWN, ServerMetrics


class MergedPredictionService(PredictionService):
    """Answers as `PredictionService`; a request that waits for its batch holds no thread.

    The thread that runs a batch writes all its replies.

    Args:
      manager: the loaded models.
      pool: for requests that cannot be merged.
      tensor_content, metrics: as `PredictionService`.
    """

    def __init__(self, manager: ModelManager, *, pool: concurrent.futures.Executor, tensor_content: bool = False,
                 metrics: ServerMetrics | None = None):
        super().__init__(manager, tensor_content=tensor_content, metrics=metrics)
        self._pool = pool

    def Predict(self, request, context: GrpcCall):
        begun = time.perf_counter()
        served = [UNKNOWN, UNKNOWN, UNKNOWN]
        remaining = context.time_remaining()

        def end(response, error: Exception | None) -> None:
            code, message = ("OK", "") if error is None else failure(error)
            if self._metrics is not None:
                self._metrics.request(*served, api="grpc", code=code, seconds=time.perf_counter() - begun)
            if error is None:
                context.answer(response)
            else:
                context.refuse(*abort_arguments(code, message))

        try:
            self._begin(request, served, end, context,
                        deadline=None if remaining is None else time.monotonic() + remaining)
        except Exception as error:
            end(None, error)
        return LATER

    Predict.at_once = True

    def _begin(self, request, served: list, end: Callable, call: GrpcCall, *, deadline: float | None) -> None:
        """Begins a request; `end` is called once with the reply, or with None and the error, unless this raises."""
        with contextlib.ExitStack() as stack:
            servable = stack.enter_context(lease_servable(self._manager, request))
            name, signature = self._signature(servable, request, served)
            inputs, wanted = read_inputs(signature, request), check_filter(signature, request.output_filter)
            submit = None if wanted else getattr(servable, "submit", None)
            held = stack.pop_all()

            def ended(results, error: Exception | None) -> None:
                reply = None
                try:
                    with held:
                        if error is None:
                            reply = self._reply(servable, name, results)
                except Exception as late:  # Whatever it is, the client is not to wait for ever.
                    error = late
                end(reply, error)

            def alone() -> None:
                results = error = None
                try:
                    if call.gone:
                        raise RequestError("CANCELLED", "The client has gone while its request waited for a thread.")
                    results = servable.run(name, inputs, wanted, deadline=deadline)
                except Exception as failed:
                    error = failed
                ended(results, error)

            try:
                if submit is None or not submit(name, inputs, deadline=deadline, done=ended):
                    call.watch()
                    self._pool.submit(alone)
            except Exception:
                held.close()
                raise
