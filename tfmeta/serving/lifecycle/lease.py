"""The use of a loaded version for the length of one request."""

from tfmeta.serving.lifecycle.managed_version import ManagedVersion


class Lease:
    """Keeps a version loaded between entering and leaving: `with manager.lease(name) as servable:`.

    A version that is being replaced takes no new leases and is unloaded when its last one ends.

    Args:
      version: a version that holds a lease already counted for this object.
    """

    __slots__ = ("_version", "servable")

    def __init__(self, version: ManagedVersion):
        self._version = version
        self.servable = version.servable

    def release(self) -> None:
        """Ends the lease; a second call does nothing."""
        version, self._version = self._version, None
        if version is not None:
            version.release()

    def __enter__(self):
        return self.servable

    def __exit__(self, *_):
        self.release()
