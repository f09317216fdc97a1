"""What the clients do, without doing any input or output: generators that yield calls and are sent replies."""

import dataclasses
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from tfmeta.errors import ConfigError, DataError
from tfmeta.serving import wire
from tfmeta.serving.client.calls import PredictCall, PredictReply, Sleep, StatusCall
from tfmeta.serving.client.client_options import ClientOptions
from tfmeta.serving.client.errors import DeadlineExceeded, InvalidRequest, NotFound, StatusError, Unavailable
from tfmeta.serving.client.model_description import DOCUMENTS, SIGNATURE, ModelDescription
from tfmeta.serving.client.request_batch import RequestBatch
from tfmeta.serving.request_error import RequestError

Operation = Generator[Any, Any, Any]
# A model may be replaced while it is described and called; more swaps than this within one call are an error.
_ROUNDS = 4
_POLL = 0.1


@dataclasses.dataclass(frozen=True)
class Target:
    """The model that a call is for: its name, and a version, a label, or neither for the latest version."""

    model: str
    version: int | None = None
    label: str | None = None

    def __post_init__(self):
        if self.version is not None and self.label is not None:
            raise ConfigError(f"A call requires a version or a label, received version {self.version} and label "
                              f"'{self.label}'.")


class Operations:
    """Descriptions of models and the course of each call.

    Args:
      options: of the client.
      clock: monotonic seconds, by which descriptions age.
    """

    def __init__(self, options: ClientOptions, *, clock: Callable[[], float] = time.monotonic):
        self._options, self._clock = options, clock
        self._known: dict[Target, tuple[ModelDescription, float]] = {}

    def predict(self, target: Target, signature: str, inputs: dict[str, Any], *, accept_status: bool) -> Operation:
        """One raw request; returns the outputs."""
        arrays = {name: _check_input(name, np.asarray(value)) for name, value in inputs.items()}
        call = PredictCall(target.model, signature, arrays, target.version, target.label)
        (reply,) = yield [call]
        status = reply.outputs.get("status")
        if not accept_status and status is not None and status.any():
            raise StatusError({int(row): int(status[row]) for row in np.flatnonzero(status)})
        return reply.outputs

    def versions(self, model: str) -> Operation:
        """Versions that can be called now, newest first."""
        (reply,) = yield [StatusCall(model)]
        return reply.available

    def wait_until_available(self, model: str, *, timeout: float) -> Operation:
        """The latest version, once there is one; the last failure after `timeout` seconds."""
        end, failure = self._clock() + timeout, None
        while True:
            try:
                available = yield from self.versions(model)
                if available:
                    return available[0]
                failure = Unavailable("UNAVAILABLE", f"model '{model}' has no available version")
            except RequestError as error:
                # That the time is over says less than what failed before.
                failure = failure if failure is not None and isinstance(error, DeadlineExceeded) else error
            if self._clock() + _POLL >= end:
                raise failure
            yield Sleep(_POLL)

    def describe(self, target: Target) -> Operation:
        """The description, read again if it is older than the options allow."""
        known = self._known.get(target)
        if known is not None and (target.version is not None
                                  or self._clock() - known[1] < self._options.description_age):
            return known[0]
        return (yield from self._read_description(target))

    def run(self, target: Target, signature: str, arguments: dict[str, Any], *, accept_status: bool) -> Operation:
        """Encodes arguments for a model, sends them, and joins the replies.

        All requests of a call are answered by one version. If the model was replaced by one that reads requests
        differently, everything is encoded and sent again.

        Returns:
          (batch, outputs by name as `RequestBatch.answer` has them, version).
        """
        before = self._known.get(target)
        description = yield from self.describe(target)
        fresh = before is None or description is not before[0]
        for left in reversed(range(_ROUNDS)):
            try:
                batch = RequestBatch(description, signature, arguments, options=self._options)
                replies = yield from _one_version(batch.calls(target.model, version=target.version,
                                                              label=target.label), pinned=target.version)
            except (DataError, InvalidRequest, NotFound) as error:
                swapped = isinstance(error, NotFound) and target.version is None
                if not left or (fresh and not swapped):
                    raise
                known, description, fresh = description, (yield from self._read_description(target)), True
                if not swapped and description.encodes_like(known) and description.signatures == known.signatures:
                    raise
                continue
            version = next((r.version for r in replies), None)
            if version is None or version == description.version or target.version is not None:
                break
            known, description, fresh = description, (yield from self._read_description(target)), True
            if description.encodes_like(known) or not left:
                break
        if not batch.count:
            return batch, {}, None
        return batch, batch.answer(replies, accept_status=accept_status), version

    def _read_description(self, target: Target) -> Operation:
        call = PredictCall(target.model, SIGNATURE, {"document": np.array(DOCUMENTS, object)}, target.version,
                           target.label, want_version=True)
        try:
            (reply,) = yield [call]
        except InvalidRequest as error:
            if "ignature" not in error.message:
                raise
            raise InvalidRequest(error.code, f"{error.message} A client learns a model's features from its signature "
                                 f"'{SIGNATURE}': export the model again with this version of tfmeta, or send arrays "
                                 "with predict().") from None
        spec, export = (reply.outputs["json"].ravel().tolist() if "json" in reply.outputs else (b"", b""))
        description = ModelDescription.parse(target.model, version=reply.version, feature_spec=spec, export=export)
        self._known[target] = (description, self._clock())
        return description


def _one_version(calls: list[PredictCall], *, pinned: int | None) -> Operation:
    """Sends calls so that one version answers all of them: the one that answers the first."""
    if len(calls) < 2 or pinned is not None:
        return (yield calls) if calls else []
    (first,) = yield [dataclasses.replace(calls[0], want_version=True)]
    rest: list[PredictReply] = yield [dataclasses.replace(c, version=first.version, label=None) for c in calls[1:]]
    return [first, *rest]


def _check_input(name: str, array: np.ndarray) -> np.ndarray:
    """Refuses the two things that would fail strangers' requests in a server that batches."""
    if array.size == 0:
        raise InvalidRequest("INVALID_ARGUMENT", f"Input {name} has no elements (shape {list(array.shape)}). Under "
                             "request batching it would fail other requests; send an empty support as width 1 with "
                             "length 0.")
    if name == "examples":
        for row, data in enumerate(array.ravel().tolist()):
            if not isinstance(data, bytes) or not wire.is_example(data):
                raise InvalidRequest("INVALID_ARGUMENT", f"Input examples requires serialized tf.Example messages, "
                                     f"received {data!r:.60} in row {row}.")
    return array
