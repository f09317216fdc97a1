"""A user's adapted state, which a client may keep."""

import dataclasses
import struct

import numpy as np

from tfmeta.errors import DataError

_MAGIC = b"tfmeta.state.1\0"


@dataclasses.dataclass(frozen=True)
class UserState:
    """What `adapt` returns for a user, and `score_with_state` takes.

    A state holds nothing of the user but the adapted numbers, and fits one model only: another one refuses it (bit 4
    of `status`), and the user is adapted again.

    Attributes:
      state: `[P]` float32.
      model: fingerprint of the model that it belongs to.
      status: bits, 0 if all is well.
      version: version of the model that answered, None if the server did not say. It is not kept.
    """

    state: np.ndarray
    model: bytes
    status: int = 0
    version: int | None = None

    def to_bytes(self) -> bytes:
        """Returns the state for a cache: 4 bytes a number and some 90 more."""
        return (_MAGIC + struct.pack("<iH", self.status, len(self.model)) + self.model
                + np.ascontiguousarray(self.state, "<f4").tobytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> "UserState":
        """Reads what `to_bytes` wrote; DataError on anything else."""
        head = len(_MAGIC) + 6
        if data[:len(_MAGIC)] != _MAGIC or len(data) < head:
            raise DataError("A user state requires what UserState.to_bytes returned, received "
                            f"{len(data)} other bytes.")
        status, length = struct.unpack("<iH", data[len(_MAGIC):head])
        content = data[head + length:]
        if len(data) < head + length or len(content) % 4:
            raise DataError(f"A user state requires all bytes of UserState.to_bytes, received {len(data)}.")
        return cls(np.frombuffer(content, "<f4").astype(np.float32), data[head:head + length], status)
