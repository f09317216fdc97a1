"""When a failed request is sent again."""

import dataclasses
import random

from tfmeta.config import require


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """Exponential back-off with full jitter: before attempt n + 1 a uniform draw from 0 to min(maximum, initial *
    multiplier^(n - 1)) seconds.

    The jitter keeps clients that failed together from coming back together (Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015). Predict changes nothing on the server, so sending it again is safe.

    Attributes:
      attempts: how often a request is sent at most; 1 never retries.
      initial, maximum: seconds.
      multiplier: growth of the limit from attempt to attempt.
      exhausted: whether RESOURCE_EXHAUSTED is retried too. A server that has too much to do gets more of it then.
    """

    attempts: int = 5
    initial: float = 0.05
    maximum: float = 2.0
    multiplier: float = 2.0
    exhausted: bool = False

    def __post_init__(self):
        require(self.attempts >= 1, "retry.attempts", "at least 1", self.attempts)
        require(self.initial >= 0, "retry.initial", "seconds of at least 0", self.initial)
        require(self.maximum >= self.initial, "retry.maximum", f"at least initial, {self.initial}", self.maximum)
        require(self.multiplier >= 1, "retry.multiplier", "at least 1", self.multiplier)

    def delay(self, code: str, *, attempt: int, remaining: float, rng: random.Random) -> float | None:
        """Returns the seconds to wait before the next attempt, or None if there is none.

        Args:
          code: status code of the attempt that failed.
          attempt: its number, from 1.
          remaining: seconds until the deadline of the whole call.
          rng: of the jitter.
        """
        again = code == "UNAVAILABLE" or (self.exhausted and code == "RESOURCE_EXHAUSTED")
        if not again or attempt >= self.attempts:
            return None
        wait = rng.uniform(0.0, min(self.maximum, self.initial * self.multiplier ** (attempt - 1)))
        return wait if wait < remaining else None
