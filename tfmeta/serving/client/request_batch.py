"""The arguments of one call as requests, and the replies as one answer."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfmeta.errors import DataError, ServingError
from tfmeta.serving.client.calls import PredictCall, PredictReply
from tfmeta.serving.client.client_options import ClientOptions
from tfmeta.serving.client.errors import StatusError
from tfmeta.serving.client.item_lists import ItemLists
from tfmeta.serving.client.model_description import ModelDescription
from tfmeta.serving.client.ragged import Ragged
from tfmeta.serving.client.user_rows import parse_users
from tfmeta.serving.client.user_state import UserState

_FEATURE_REPLACED = 2
_BY_CANDIDATE = ("scores", "base_scores", "influence")


class RequestBatch:
    """Users with their lists, cut into requests.

    Args:
      description: the model's.
      signature: which one to call.
      arguments: those of `user, candidates, support, exclude, state` that the signature has.
      options: sizes of requests.

    Raises:
      DataError: if an argument is not of its form, or they are for different numbers of users.
      InvalidRequest: if the model has no such signature.
    """

    def __init__(self, description: ModelDescription, signature: str, arguments: dict[str, Any], *,
                 options: ClientOptions):
        description.require_signature(signature)
        self._description, self._signature = description, signature
        users = parse_users(arguments["user"], description.feature_spec)
        items = ItemLists(description, users=users)
        lists = {name: getattr(items, name)(arguments[name]) for name in ("candidates", "support", "exclude")
                 if name in arguments}
        states = _states(arguments["state"]) if "state" in arguments else None
        sizes = {"user": users.count} if users.batched else {}
        sizes |= {name: len(value.counts) for name, value in lists.items() if value.batched}
        if states is not None and not isinstance(arguments["state"], UserState):
            sizes["state"] = len(states)
        if len(set(sizes.values())) > 1:
            raise DataError("A call requires arguments for the same number of users, received "
                            f"{', '.join(f'{name} for {count}' for name, count in sizes.items())}.")
        self.single = not sizes
        self.count = count = 1 if self.single else next(iter(sizes.values()))
        self._users = users.for_users(count)
        # The graph keeps the last rows. Those that it would drop stay here, unless it has to report one of them.
        bound = description.support_bound if signature != "explain" else None
        if "support" in lists and bound and np.isfinite(lists["support"].labels).all():
            lists["support"] = lists["support"].tail(bound)
        self._lists = {name: value.for_users(count) for name, value in lists.items()}
        self._states = None if states is None else states * count if len(states) == 1 else states
        self._chunks = self._cut(options)
        # One request without padding, the usual case: its reply is the answer as it is.
        self._even = self.candidates is not None and len(self._chunks) == 1 and bool(
            (self.candidates.counts == self._chunks[0][2]).all())

    @property
    def candidates(self) -> Ragged | None:
        return self._lists.get("candidates")

    @property
    def support(self) -> Ragged | None:
        return self._lists.get("support")

    def ids(self, name: str, row: int) -> np.ndarray:
        """Returns the raw ids of a user's candidates or support."""
        value = self._lists[name]
        start = value.offsets[row]
        return value.columns[self._description.feature_spec.item_id.name][start:start + value.counts[row]]

    def calls(self, model: str, *, version: int | None, label: str | None) -> list[PredictCall]:
        """Returns the requests."""
        return [PredictCall(model, self._signature, self._inputs(*chunk), version, label) for chunk in self._chunks]

    def answer(self, replies: list[PredictReply], *, accept_status: bool) -> dict[str, Any]:
        """Joins the replies.

        Returns:
          Output name -> list with an array a user; what has no axis of candidates is an array `[B, ...]`.

        Raises:
          StatusError: naming users by their position in the call.
          ServingError: if a reply has not the shape of its request.
        """
        outputs: dict[str, Any] = {}
        status = np.zeros(self.count, np.int32)
        for (rows, start, width), reply in zip(self._chunks, replies, strict=True):
            for name, value in reply.outputs.items():
                if len(value) != len(rows) or (name in _BY_CANDIDATE and width and value.shape[1] != width):
                    raise ServingError(f"Output '{name}' of signature '{self._signature}' requires {len(rows)} rows "
                                       f"and {width} candidates, received shape {value.shape}.")
                if name == "status":
                    status[rows] |= value
                elif name in _BY_CANDIDATE and width:
                    self._scatter(outputs, name, value, rows, start)
                else:
                    outputs.setdefault(name, []).append(value)
        status = np.where(self._declared_missing(), status & ~_FEATURE_REPLACED, status)
        if status.any() and not accept_status:
            raise StatusError({int(row): int(status[row]) for row in np.flatnonzero(status)})
        scattered = {name: self._split(value) if isinstance(value, np.ndarray) else np.concatenate(value)
                     for name, value in outputs.items()}
        return {**scattered, "status": status}

    def _cut(self, options: ClientOptions) -> list[tuple[np.ndarray, int, int]]:
        """(rows, first candidate, width) of every request."""
        chunks = []
        for begin in range(0, self.count, options.max_batch):
            rows = np.arange(begin, min(self.count, begin + options.max_batch))
            if self.candidates is None:
                chunks.append((rows, 0, 0))
                continue
            counts = self.candidates.counts[rows]
            for start in range(0, max(1, int(counts.max())), options.max_candidates):
                # Width 1 at least: tensors without elements fail in the server's batching.
                width = min(options.max_candidates, max(1, int(counts.max()) - start))
                chunks.append((rows if start == 0 else rows[counts > start], start, width))
        return chunks

    def _inputs(self, rows: np.ndarray, start: int, width: int) -> dict[str, np.ndarray]:
        description = self._description
        inputs = {name: self._users.columns[feature][rows] for feature, name in description.names["user"].items()}
        if self.candidates is not None:
            columns = self.candidates.padded(self.candidates.index(rows, start=start, width=width))
            inputs |= {name: columns[feature] for feature, name in description.names["query"].items()}
        if self.support is not None:
            index, length = _index(self.support, rows)
            columns = self.support.padded(index)
            inputs |= {name: columns[feature] for feature, name in description.names["support"].items()}
            inputs |= {"support_label": self.support.padded_labels(index), "support_length": length}
        if "exclude" in self._lists:
            index, length = _index(self._lists["exclude"], rows)
            inputs |= {"exclude_item": self._lists["exclude"].padded(index)[description.feature_spec.item_id.name],
                       "exclude_length": length}
        if self._states is not None:
            inputs["user_state"] = np.stack([self._states[row].state for row in rows])
            inputs["state_model"] = np.array([self._states[row].model for row in rows], object)
        return inputs

    def _scatter(self, outputs: dict, name: str, value: np.ndarray, rows: np.ndarray, start: int) -> None:
        """Writes `[R, width, ...]` without its padding into the buffer of all users' candidates."""
        counts = self.candidates.counts
        if self._even:
            outputs[name] = value.reshape(-1, *value.shape[2:])
            return
        column = start + np.arange(value.shape[1])[None, :]
        inside = column < counts[rows, None]
        trailing = value.shape[2:]
        if name == "influence":  # As wide as the longest support of all requests.
            trailing = (max(1, int(self.support.counts.max())),)
        if name not in outputs:
            outputs[name] = np.zeros((int(counts.sum()), *trailing), value.dtype)
        place = ((np.cumsum(counts) - counts)[rows, None] + column)[inside]
        outputs[name][(place, *(slice(n) for n in value.shape[2:]))] = value[inside]

    def _split(self, buffer: np.ndarray) -> list[np.ndarray]:
        if len(self.candidates.counts) == 1:
            return [buffer]
        return np.split(buffer, np.cumsum(self.candidates.counts)[:-1])

    def _declared_missing(self) -> np.ndarray:
        """Users `[B]` bool for whom the caller gave no value of a number, and no infinite one: the graph then says
        that it replaced a feature, which is what the caller wants."""
        missing, infinite = np.zeros(self.count, bool), np.zeros(self.count, bool)
        for value in self._users.columns.values():
            if value.dtype.kind == "f":
                axes = tuple(range(1, value.ndim))
                missing |= np.isnan(value).any(axis=axes)
                infinite |= np.isinf(value).any(axis=axes)
        for ragged in self._lists.values():
            for value in ragged.columns.values():
                if value.dtype.kind == "f":
                    axes = tuple(range(1, value.ndim))
                    missing |= _any_by_user(ragged, np.isnan(value).any(axis=axes))
                    infinite |= _any_by_user(ragged, np.isinf(value).any(axis=axes))
        return missing & ~infinite


def _index(ragged: Ragged, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions `[R, width]` and lengths `[R]` int32; an empty list is sent as width 1."""
    counts = ragged.counts[rows]
    return ragged.index(rows, width=max(1, int(counts.max()))), counts.astype(np.int32)


def _any_by_user(ragged: Ragged, flags: np.ndarray) -> np.ndarray:
    if not ragged.batched:
        return np.full(len(ragged.counts), flags.any())
    return np.bincount(np.repeat(np.arange(len(ragged.counts)), ragged.counts), weights=flags,
                       minlength=len(ragged.counts)) > 0


def _states(value: UserState | Sequence[UserState]) -> list[UserState]:
    states = [value] if isinstance(value, UserState) else list(value)
    for row, state in enumerate(states):
        if not isinstance(state, UserState):
            raise DataError(f"The state requires what adapt returned, received {state!r:.80} for user {row}.")
        if state.state.shape != states[0].state.shape:
            raise DataError(f"The states require one length, received {len(state.state)} numbers for user {row} and "
                            f"{len(states[0].state)} for user 0. Those of another model cannot be mixed in: adapt "
                            "again.")
    return states
