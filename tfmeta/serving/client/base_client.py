"""The calls that every client has."""

import abc
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfmeta.errors import ConfigError
from tfmeta.serving.client.client_options import ClientOptions
from tfmeta.serving.client.explanation import Explanation
from tfmeta.serving.client.operations import Operation, Operations, Target
from tfmeta.serving.client.recommendations import Recommendations
from tfmeta.serving.client.request_batch import RequestBatch
from tfmeta.serving.client.scores import Scores
from tfmeta.serving.client.telemetry import Telemetry
from tfmeta.serving.client.user_state import UserState


class BaseClient(abc.ABC):
    """What `Client`, `RestClient` and `AsyncClient` share; with the last one, every call is awaited.

    Arguments that several calls have:

      model: name of the model; the client's own if it was given one.
      user: features of the user: a mapping of name -> value, where what is left out is missing; None if nothing is
        known. A list of mappings, a mapping of arrays `[B, ...]` or a data frame mean B users.
      candidates: items to score: a list of ids, or with a model that was exported without a catalogue a list of
        mappings of features, a mapping of arrays or a data frame. A list of such lists (or an array `[B, Q]`) has one
        for each user; one list is every user's.
      support: what the user did, oldest first: a list of (item, label), or mappings, arrays or a data frame with the
        label in a column of its name; None for nothing. Labels are in the data's own unit. Clicks need none.
      version, label: which version of the model; the latest one by default.
      timeout: seconds for all that the call does; the client's own by default.
      accept_status: return results of rows whose `status` is not 0 instead of raising `StatusError`.

    One user gives one result, several users a list with a result for each.

    Every call raises a subclass of `RequestError` with the server's message (`NotFound`, `InvalidRequest`,
    `Unavailable`, `DeadlineExceeded`, `Exhausted`, `AccessDenied`), and `DataError` for arguments that do not fit the
    model's features.

    Args:
      address: of the server.
      model: name of the model that calls are for unless they name one.
      options: how the client behaves.
      changes: options to change, by name, such as `timeout=2.0`.
    """

    # Named in spans.
    _system = "grpc"

    def __init__(self, address: str, *, model: str | None = None, options: ClientOptions | None = None, **changes):
        self.address, self.model = address, model
        self.options = (options or ClientOptions()).replace(**changes)
        self.options.check_token(address)
        self._clock: Callable[[], float] = time.monotonic
        self._rng = random.Random()
        self._operations = Operations(self.options, clock=lambda: self._clock())
        self._telemetry = Telemetry(self.options.telemetry, address=address, system=self._system)

    @abc.abstractmethod
    def _run(self, operation: Operation, timeout: float | None) -> Any:
        """Performs an operation to its end: sends what it asks for, and returns its result."""

    def _target(self, model: str | None, version: int | None, label: str | None) -> Target:
        name = model or self.model
        if not name:
            raise ConfigError("A call requires the name of a model, received none. Pass it first, or to the client as "
                              "model=.")
        return Target(name, version, label)

    def predict(self, model: str, inputs: dict[str, Any], *, signature: str = "score", version: int | None = None,
                label: str | None = None, timeout: float | None = None, accept_status: bool = False
                ) -> dict[str, np.ndarray]:
        """Runs a signature on arrays, as they are.

        Args:
          model: name of the model on the server.
          inputs: arrays by input name, all with the batch as axis 0; dtypes as the signature has them
            (labels float32, lengths int32; ids and strings as `str` or `bytes`).
          signature: name of the signature; empty for the default one.
          version, label, timeout, accept_status: see the class.

        Returns:
          Arrays by output name; strings as bytes in object arrays.

        Raises:
          StatusError: where an output `status` says that values of the request were dropped, replaced or clamped.
          ValueError: if an input is of a type that no tensor has.
        """
        return self._run(self._operations.predict(self._target(model, version, label), signature, inputs,
                                                  accept_status=accept_status), timeout)

    def score(self, model: str | None = None, *, candidates: Any, user: Any = None, version: int | None = None,
              label: str | None = None, timeout: float | None = None, accept_status: bool = False
              ) -> Scores | list[Scores]:
        """Scores candidates without adapting."""
        return self._run(self._scores(self._target(model, version, label), "score",
                                      {"user": user, "candidates": candidates}, accept_status), timeout)

    def adapt_and_score(self, model: str | None = None, *, candidates: Any, user: Any = None, support: Any = None,
                        version: int | None = None, label: str | None = None, timeout: float | None = None,
                        accept_status: bool = False) -> Scores | list[Scores]:
        """Adapts to the support, then scores candidates; `base_scores` are those without it."""
        arguments = {"user": user, "support": support, "candidates": candidates}
        return self._run(self._scores(self._target(model, version, label), "adapt_and_score", arguments,
                                      accept_status), timeout)

    def adapt(self, model: str | None = None, *, support: Any, user: Any = None, version: int | None = None,
              label: str | None = None, timeout: float | None = None, accept_status: bool = False
              ) -> UserState | list[UserState]:
        """Adapts to the support and returns the state, to keep for `score_with_state`."""
        return self._run(self._adapt(self._target(model, version, label), {"user": user, "support": support},
                                     accept_status), timeout)

    def score_with_state(self, model: str | None = None, *, state: UserState | list[UserState], candidates: Any,
                         user: Any = None, version: int | None = None, label: str | None = None,
                         timeout: float | None = None, accept_status: bool = False) -> Scores | list[Scores]:
        """Scores candidates for users whose states were kept.

        Raises:
          StatusError: `stale_rows` are those whose state is of another model; adapt these again. With
            `accept_status` they get their unadapted scores.
        """
        arguments = {"user": user, "candidates": candidates, "state": state}
        return self._run(self._scores(self._target(model, version, label), "score_with_state", arguments,
                                      accept_status), timeout)

    def recommend(self, model: str | None = None, *, user: Any = None, support: Any = None, exclude: Any = None,
                  count: int | None = None, version: int | None = None, label: str | None = None,
                  timeout: float | None = None, accept_status: bool = False
                  ) -> Recommendations | list[Recommendations]:
        """Returns the best of the catalogue, adapted to the support where one is given (`adapt_and_recommend`).

        Args:
          support: its items are left out.
          exclude: ids of further items to leave out.
          count: how many at most; all that the model returns by default.
        """
        if count is not None and count < 1:
            raise ConfigError(f"count requires at least 1, received {count}.")
        arguments = {"user": user, "exclude": exclude} | ({} if support is None else {"support": support})
        return self._run(self._recommend(self._target(model, version, label), arguments, count, accept_status),
                         timeout)

    def explain(self, model: str | None = None, *, support: Any, candidates: Any, user: Any = None,
                version: int | None = None, label: str | None = None, timeout: float | None = None,
                accept_status: bool = False) -> Explanation | list[Explanation]:
        """Says how much each interaction of the support moved each score."""
        arguments = {"user": user, "support": support, "candidates": candidates}
        return self._run(self._explain(self._target(model, version, label), arguments, accept_status), timeout)

    def describe(self, model: str | None = None, *, version: int | None = None, label: str | None = None,
                 timeout: float | None = None):
        """Returns the model's `ModelDescription`: features, signatures, support bound, fingerprint."""
        return self._run(self._operations.describe(self._target(model, version, label)), timeout)

    def versions(self, model: str | None = None, *, timeout: float | None = None) -> list[int]:
        """Returns the versions of a model that can be called now, newest first; NotFound if there is no model."""
        return self._run(self._operations.versions(self._target(model, None, None).model), timeout)

    def wait_until_available(self, model: str | None = None, *, timeout: float = 60.0) -> int:
        """Waits until the server has a version of the model, and returns its number.

        Raises:
          RequestError: the last failure, after `timeout` seconds.
        """
        name = self._target(model, None, None).model
        return self._run(self._operations.wait_until_available(name, timeout=timeout), timeout)

    def _scores(self, target: Target, signature: str, arguments: dict[str, Any], accept_status: bool) -> Operation:
        batch, outputs, version = yield from self._operations.run(target, signature, arguments,
                                                                  accept_status=accept_status)
        base = outputs.get("base_scores")
        return _result(batch, lambda row: Scores(
            items=batch.ids("candidates", row), scores=outputs["scores"][row],
            base_scores=None if base is None else base[row], status=int(outputs["status"][row]), version=version))

    def _adapt(self, target: Target, arguments: dict[str, Any], accept_status: bool) -> Operation:
        batch, outputs, version = yield from self._operations.run(target, "adapt", arguments,
                                                                  accept_status=accept_status)
        return _result(batch, lambda row: UserState(
            state=outputs["user_state"][row], model=outputs["state_model"][row],
            status=int(outputs["status"][row]), version=version))

    def _recommend(self, target: Target, arguments: dict[str, Any], count: int | None, accept_status: bool
                   ) -> Operation:
        signature = "adapt_and_recommend" if "support" in arguments else "recommend"
        batch, outputs, version = yield from self._operations.run(target, signature, arguments,
                                                                  accept_status=accept_status)

        def one(row: int) -> Recommendations:
            found = int(outputs["item_count"][row])
            kept = slice(found if count is None else min(found, count))
            items = outputs["item_ids"][row][kept]
            if items.dtype == object:
                items = np.array([_text(v) for v in items], object)
            return Recommendations(items=items, scores=outputs["scores"][row][kept],
                                   status=int(outputs["status"][row]), version=version)

        return _result(batch, one)

    def _explain(self, target: Target, arguments: dict[str, Any], accept_status: bool) -> Operation:
        batch, outputs, version = yield from self._operations.run(target, "explain", arguments,
                                                                  accept_status=accept_status)

        def one(row: int) -> Explanation:
            support = batch.ids("support", row)
            return Explanation(items=batch.ids("candidates", row), support=support,
                               influence=outputs["influence"][row][:, :len(support)], scores=outputs["scores"][row],
                               base_scores=outputs["base_scores"][row], status=int(outputs["status"][row]),
                               version=version)

        return _result(batch, one)


def _result(batch: RequestBatch, one: Callable[[int], Any]) -> Any:
    return one(0) if batch.single else [one(row) for row in range(batch.count)]


def _text(value: bytes | str) -> str | bytes:
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value
