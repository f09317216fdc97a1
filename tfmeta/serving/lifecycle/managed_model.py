"""The versions of one model: which are loaded, and how one replaces another."""

import logging
import threading
import time
from collections.abc import Callable

from tfmeta.errors import TfmetaError
from tfmeta.serving.lifecycle.managed_version import AVAILABLE, LOADING, UNLOADING, ManagedVersion
from tfmeta.serving.lifecycle.model_view import ModelView
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.model_versions import fingerprint, list_versions
from tfmeta.serving.request_error import RequestError

_LOG = logging.getLogger("tfmeta.serving")


class ManagedModel:
    """Keeps what is loaded of a model as its policy and its base path have it.

    One thread at a time may change it; `view`, `states` and the versions' leases are for any thread.

    Args:
      config: of the model.
      make_servable: `(name, version, path) -> servable`.
      warm_up: `(servable, path)`, called before a version serves.
      on_idle: as in `ManagedVersion`.
      stopping: set when the server ends; a version whose load ends after that is not published.

    Attributes:
      config: None once the model has been dropped from the server's list.
      view: what requests see; replaced whole, so that a look-up needs no lock.
    """

    def __init__(self, config: ModelConfig, *, make_servable: Callable[[str, int, str], object],
                 warm_up: Callable[[object, str], object], on_idle: Callable[[ManagedVersion], None],
                 stopping: threading.Event):
        self.name = config.name
        self.config: ModelConfig | None = config
        self.view = ModelView()
        self._make, self._warm_up, self._on_idle, self._stopping = make_servable, warm_up, on_idle, stopping
        self._versions: dict[int, ManagedVersion] = {}
        self._lock = threading.Lock()
        # Version -> fingerprint of the directory that did not load; and the one that it changed to, seen once.
        self._failed: dict[int, tuple | None] = {}
        self._changed: dict[int, tuple | None] = {}
        self._complaint = ""

    def entries(self) -> list[ManagedVersion]:
        """Returns all versions that there ever were, newest first."""
        with self._lock:
            return [self._versions[number] for number in sorted(self._versions, reverse=True)]

    def reconcile(self, *, eager: bool = False) -> None:
        """Looks at the base path, loads what the policy asks for and retires the rest.

        Args:
          eager: try a failed version again as soon as its directory has changed, rather than once it rests.
        """
        found = self._look()
        if not found:
            # A base path that is empty for a moment, as some copies leave it, is no reason to stop serving.
            return
        for number in set(self._failed) - set(found):
            self._failed[number] = None
        policy = self.config.policy
        wanted = policy.choose(found)
        for number in sorted(wanted, reverse=True):
            self._ensure(number, found[number], eager=eager)
        if not self.view.versions and policy.kind == "latest":
            for number in sorted(set(found) - wanted, reverse=True):
                if self._ensure(number, found[number], eager=eager):
                    _LOG.warning("Version %d of '%s' serves until a later one loads", number, self.name)
                    break
        available = set(self.view.versions)
        if wanted & available:
            self._retire(available - wanted)

    def drop(self) -> None:
        """Retires everything; the versions stay listed."""
        self.config = None
        self._failed.clear()
        self._retire(set(self.view.versions))

    def _look(self) -> dict[int, str]:
        """Returns the versions on disk; what is wrong with the base path is logged once."""
        config, found, complaint = self.config, {}, ""
        try:
            found = list_versions(config.base_path)
        except (OSError, TfmetaError) as error:
            complaint = f"Base path {config.base_path} of '{self.name}' cannot be read: {error}"
        missing = sorted(set(config.policy.versions) - set(found))
        if not complaint and not found:
            complaint = f"No versions of '{self.name}' found under {config.base_path}; what is loaded keeps serving"
        elif not complaint and missing:
            complaint = f"Versions {missing} of '{self.name}', which its policy asks for, are not there"
        if complaint != self._complaint:
            self._complaint = complaint
            if complaint:
                _LOG.warning("%s", complaint)
        return found

    def _ensure(self, number: int, path: str, *, eager: bool) -> bool:
        """Loads a version unless it is loaded or known not to load; returns whether it is AVAILABLE."""
        old = self._versions.get(number)
        if old is not None and old.state == UNLOADING:
            return False  # Its last requests run; the next look loads it again.
        if old is not None and old.state == AVAILABLE and old.path == path:
            return True
        if self._stopping.is_set():
            return False
        mark = fingerprint(path)
        if number in self._failed and not self._rests_after_change(number, mark, eager=eager):
            return False
        self._changed.pop(number, None)
        self._failed.pop(number, None)
        entry = ManagedVersion(number, path, on_idle=self._on_idle)
        if old is None or old.state != AVAILABLE:
            self._list(entry)
        begun = time.monotonic()
        if not self._load(entry):
            self._failed[number] = mark
            _LOG.error("Version %d of '%s' does not load: %s", number, self.name, entry.error[1])
            return False
        self._list(entry)
        self.view = self.view.adding(entry)
        if old is not None:
            old.retire()
        _LOG.info("Version %d of '%s' is available, loaded and warmed up in %.1f s", number, self.name,
                  time.monotonic() - begun)
        return True

    def _rests_after_change(self, number: int, mark: tuple | None, *, eager: bool) -> bool:
        """Whether the directory of a failed version has changed, and no more since the last look."""
        if mark == self._failed[number]:
            self._changed.pop(number, None)
            return False
        if not eager and self._changed.get(number, self._failed[number]) != mark:
            self._changed[number] = mark
            return False
        return True

    def _load(self, entry: ManagedVersion) -> bool:
        entry.state = LOADING
        servable = None
        try:
            servable = self._make(self.name, entry.number, entry.path)
            self._warm_up(servable, entry.path)
            if self._stopping.is_set():
                raise RequestError("CANCELLED", "The server is stopping")
        # A damaged file can raise anything; it must not take other models and versions down.
        except Exception as error:
            if servable is not None:
                servable.close()
            if isinstance(error, RequestError):
                entry.fail(error.code, error.message)
            else:
                entry.fail("UNKNOWN", str(error) if isinstance(error, TfmetaError)
                           else f"{type(error).__name__}: {error}")
            return False
        entry.publish(servable)
        return True

    def _list(self, entry: ManagedVersion) -> None:
        with self._lock:
            self._versions[entry.number] = entry

    def _retire(self, numbers: set[int]) -> None:
        """Takes versions out of the view first, so that no request keeps finding one that takes no leases."""
        entries = [self._versions[number] for number in sorted(numbers)]
        self.view = self.view.without(numbers)
        for entry in entries:
            _LOG.info("Version %d of '%s' is unloaded after its last request", entry.number, self.name)
            entry.retire()
