"""One version of a model from START to END."""

import threading
from collections.abc import Callable

# tensorflow.serving.ModelVersionStatus.State
START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50
STATE_NAMES = {START: "START", LOADING: "LOADING", AVAILABLE: "AVAILABLE", UNLOADING: "UNLOADING", END: "END"}


class ManagedVersion:
    """State, error and leases of a version.

    Args:
      number: the version number.
      path: its directory.
      on_idle: called once, in the thread of the last request, when a retired version has no lease left; it must
        return at once, and `finish` be called elsewhere.

    Attributes:
      state: one of START, LOADING, AVAILABLE, UNLOADING, END.
      error: (code name, message) of a load that failed, else None.
      servable: what answers requests while AVAILABLE or UNLOADING.
    """

    def __init__(self, number: int, path: str, *, on_idle: Callable[["ManagedVersion"], None]):
        self.number, self.path = number, path
        self.state = START
        self.error: tuple[str, str] | None = None
        self.servable = None
        self._on_idle = on_idle
        self._leases = 0
        self._lock = threading.Lock()

    @property
    def leases(self) -> int:
        """Requests that run on this version now."""
        return self._leases

    def acquire(self) -> bool:
        """Counts one more lease; False, and no lease, unless the version is AVAILABLE."""
        with self._lock:
            if self.state != AVAILABLE:
                return False
            self._leases += 1
            return True

    def release(self) -> None:
        """Ends a lease."""
        with self._lock:
            self._leases -= 1
            idle = self._leases == 0 and self.state == UNLOADING
        if idle:
            self._on_idle(self)

    def publish(self, servable) -> None:
        """Makes a loaded and warmed-up version AVAILABLE."""
        with self._lock:
            self.servable, self.state = servable, AVAILABLE

    def fail(self, code: str, message: str) -> None:
        """Ends a version that did not load."""
        with self._lock:
            self.state, self.error = END, (code, message)

    def retire(self) -> None:
        """Takes no new leases from now on; `on_idle` follows, at once if nothing runs."""
        with self._lock:
            if self.state != AVAILABLE:
                return
            self.state = UNLOADING
            idle = self._leases == 0
        if idle:
            self._on_idle(self)

    def finish(self) -> None:
        """Closes the servable and ends; does nothing where there is none."""
        with self._lock:
            servable, self.servable, self.state = self.servable, None, END
        if servable is not None:
            servable.close()
