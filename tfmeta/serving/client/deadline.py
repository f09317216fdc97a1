"""The time that a call may take, retries and all its requests included."""

import time
from collections.abc import Callable

from tfmeta.serving.client.errors import DeadlineExceeded


class Deadline:
    """Counts down from a timeout.

    Args:
      timeout: seconds.
      clock: monotonic seconds.
    """

    def __init__(self, timeout: float, *, clock: Callable[[], float] = time.monotonic):
        self.timeout, self._clock = timeout, clock
        self._end = clock() + timeout

    def left(self) -> float:
        """Returns the seconds left, 0 or less once the deadline has passed."""
        return self._end - self._clock()

    def remaining(self) -> float:
        """Returns the seconds left; DeadlineExceeded once there are none."""
        left = self.left()
        if left <= 0:
            raise DeadlineExceeded("DEADLINE_EXCEEDED", f"The {self.timeout:g} s of the call had passed before the "
                                   "request was sent. Give it more time with timeout=.")
        return left
