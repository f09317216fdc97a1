"""What an operation asks of its client, whatever the transport.

Operations are generators: they yield lists of calls, or a `Sleep`, and are sent the list of replies. So one
implementation drives the blocking, the asynchronous and the REST client.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class PredictCall:
    """One Predict request.

    Attributes:
      model: name of the model.
      signature: its key; empty for the default one.
      inputs: array by input name.
      version, label: which version; at most one of the two, neither for the latest.
      want_version: the reply must carry the version that answered.
    """

    model: str
    signature: str
    inputs: dict[str, np.ndarray]
    version: int | None = None
    label: str | None = None
    want_version: bool = False


@dataclasses.dataclass(frozen=True)
class StatusCall:
    """Asks which versions of a model there are."""

    model: str
    label: str | None = None


@dataclasses.dataclass(frozen=True)
class Sleep:
    """Waits for some seconds."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class PredictReply:
    """Arrays by output name, strings as bytes in object arrays, and the version that answered, None if unknown."""

    outputs: dict[str, np.ndarray]
    version: int | None


@dataclasses.dataclass(frozen=True)
class StatusReply:
    """Versions that can be called now, newest first."""

    available: list[int]
