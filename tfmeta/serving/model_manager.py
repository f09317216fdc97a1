"""Which models and versions a server holds."""

import concurrent.futures
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from tfmeta.errors import ServingError, TfmetaError
from tfmeta.serving.lifecycle.lease import Lease
from tfmeta.serving.lifecycle.managed_version import (
    AVAILABLE,
    END,
    LOADING,
    START,
    STATE_NAMES,
    UNLOADING,
    ManagedVersion,
)
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.model_versions import fingerprint, list_versions
from tfmeta.serving.request_error import RequestError

__all__ = ["AVAILABLE", "END", "LOADING", "START", "STATE_NAMES", "UNLOADING", "ModelManager"]

_LOG = logging.getLogger("tfmeta.serving")


class _Model:
    """Versions of one model, and what is known of those that failed."""

    def __init__(self, config: ModelConfig):
        self.config: ModelConfig | None = config  # None once the model was dropped from the configuration
        self.versions: dict[int, ManagedVersion] = {}
        self.failed: dict[int, tuple | None] = {}  # version -> fingerprint of the directory that did not load
        self.pending: dict[int, tuple | None] = {}  # version -> fingerprint that changed, seen once
        self.complaint = ""  # the last one logged about the base path


@dataclasses.dataclass(frozen=True)
class _View:
    """What requests see of a model: an immutable snapshot, so that a look-up needs no lock."""

    latest: ManagedVersion | None
    versions: Mapping[int, ManagedVersion]


_NOTHING = _View(None, {})


class ModelManager:
    """Loads the configured versions of every model, follows their base paths, and lends what answers requests.

    A new version is loaded and warmed up while the old one serves; then requests go to the new one, and the old one
    is unloaded after its last request. A version that does not load, or whose warm-up fails, ends (state END with
    its error), disturbs nothing else, and is tried again only after a file in its directory has changed. When the
    latest versions do not load and nothing else of the model is loaded (after a restart, say), the next older
    version that loads serves.

    Args:
      models: model name -> base path, each served at its latest version; or configurations.
      make_servable: `(name, version, path) -> servable`; a `Servable` unless given.
      warm_up: `(servable, path)`, called before a version serves; replays the recorded requests unless given.
      poll_seconds: time between two looks at the base paths; 0 looks only at `load` and `reload`.
      allow_unavailable_labels: a label may name a version that is not AVAILABLE (yet).

    Raises:
      ServingError: if there is no model, a name is empty or given twice, or a base path has no version.
    """

    def __init__(self, models: Mapping[str, str] | Iterable[ModelConfig], *,
                 make_servable: Callable[[str, int, str], object] | None = None,
                 warm_up: Callable[[object, str], object] | None = None, poll_seconds: float = 0.0,
                 allow_unavailable_labels: bool = False):
        if isinstance(models, Mapping):
            models = [ModelConfig(name=name, base_path=base) for name, base in models.items()]
        configs = list(models)
        if not configs:
            raise ServingError("A server requires at least one model, received none. Pass NAME=DIR.")
        for position, config in enumerate(configs):
            if not config.name:
                raise ServingError(f"The model in '{config.base_path}' requires a name, received an empty one.")
            if config.name in [c.name for c in configs[:position]]:
                raise ServingError(f"Models require different names, received '{config.name}' twice.")
            if not list_versions(config.base_path):
                raise ServingError(
                    f"Model '{config.name}' requires a directory with numeric version directories (such as 1/), "
                    f"received '{config.base_path}', which has none. Write one with 'tfmeta export --out "
                    f"{config.base_path}'.")
        self._make, self._warm_up = make_servable or _load_servable, warm_up or _replay
        self._allow_unavailable_labels = allow_unavailable_labels
        self._models = {config.name: _Model(config) for config in configs}
        self._views: dict[str, _View] = {}
        self._labels: dict[str, Mapping[str, int]] = {}
        # Held while the set of versions changes, loading included; requests never take it.
        self._change = threading.RLock()
        self._states = threading.Lock()
        self._unloader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="unload")
        self._poll_seconds, self._stop, self._poller = poll_seconds, threading.Event(), None

    def load(self) -> None:
        """Loads the configured versions, and follows the base paths from then on.

        Raises:
          ServingError: if a model has no version that loads, or a label no available version.
        """
        try:
            self._load_all()
        except ServingError:
            self.close()
            raise
        if self._poll_seconds > 0 and self._poller is None:
            self._poller = threading.Thread(target=self._follow, name="poll-versions", daemon=True)
            self._poller.start()

    def _load_all(self) -> None:
        with self._change:
            for model in self._models.values():
                self._reconcile(model, eager=True)
                self._require_one(model)
            try:
                self._labels = self._check_labels([m.config for m in self._models.values()])
            except RequestError as error:
                raise ServingError(f"{error.message}. Serve that version, or allow labels for unavailable versions "
                                   "(--allow-version-labels-for-unavailable-models).") from None

    def poll(self) -> None:
        """Looks at all base paths once, loads what is new and unloads what is gone."""
        with self._change:
            for model in list(self._models.values()):
                if model.config is not None and not self._stop.is_set():
                    self._reconcile(model)

    def reload(self, configs: Iterable[ModelConfig]) -> None:
        """Replaces the whole list of models, and returns when the new ones are loaded.

        Models that are not in it are unloaded and stay listed as END. What is refused changes nothing.

        Args:
          configs: the new list.

        Raises:
          RequestError: NOT_FOUND if a new model has no version directory, FAILED_PRECONDITION if a label names a
            version that is not available now, UNKNOWN if a new model does not load (the list is replaced then).
        """
        configs = list(configs)
        with self._change:
            if self._stop.is_set():
                raise RequestError("UNAVAILABLE", "The server is stopping")
            live = {name for name, model in self._models.items() if model.config is not None}
            for config in configs:
                if config.name not in live and not list_versions(config.base_path):
                    raise RequestError("NOT_FOUND", "Unable to find a numerical version path for servable "
                                                    f"{config.name} at: {config.base_path}")
            # Labels move first: their versions are loaded, and those they leave may be unloaded below.
            self._labels = self._check_labels(configs)
            wanted = {config.name: config for config in configs}
            for name, model in self._models.items():
                if name not in wanted and model.config is not None:
                    model.config = None
                    model.failed.clear()
                    self._retire(name, model, list(model.versions.values()))
                    _LOG.info("Model '%s' is no longer configured", name)
            for name, config in wanted.items():
                model = self._models.setdefault(name, _Model(config))
                model.config = config
                self._reconcile(model, eager=True)
            self._report_unavailable(set(wanted) - live)

    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Lease:
        """Returns the servable of a request's model_spec for the length of a `with` block.

        It stays loaded until the block ends, whatever happens to the model meanwhile.

        Raises:
          RequestError: INVALID_ARGUMENT without a name or with an unknown label, NOT_FOUND for an unknown model or
            version.
        """
        while True:
            found = self._find(name, version, label)
            # Refused only between being replaced in the view and here: look again.
            if found.acquire():
                return Lease(found)

    def _find(self, name: str, version: int | None, label: str | None) -> ManagedVersion:
        if not name:
            raise RequestError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if label:
            version = self._resolve_label(name, label)
        view = self._views.get(name, _NOTHING)
        found = view.latest if version is None else view.versions.get(version)
        if found is None:
            raise RequestError("NOT_FOUND", "Servable not found for request: " + (
                f"Latest({name})" if version is None else f"Specific({name}, {version})"))
        return found

    def _resolve_label(self, name: str, label: str) -> int:
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise RequestError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        return version

    def states(self, name: str, *, version: int | None = None,
               label: str | None = None) -> list[tuple[int, int, tuple[str, str] | None]]:
        """Returns (version, state, error) of a model, newest first; an error is (code name, message).

        Raises:
          RequestError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an unknown label.
        """
        if label:
            version = self._resolve_label(name, label)
        with self._states:
            model = self._models.get(name)
            entries = sorted(model.versions.items(), reverse=True) if model else []
        if not entries:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {name}")
        if version is not None:
            entries = [e for e in entries if e[0] == version]
            if not entries:
                raise RequestError("NOT_FOUND", f"Could not find version {version} of model {name}")
        return [(number, entry.state, entry.error) for number, entry in entries]

    def loaded(self) -> dict[str, int]:
        """Returns model name -> the version that answers requests without one."""
        return {name: view.latest.number for name, view in sorted(self._views.items()) if view.latest is not None}

    def close(self, *, grace: float = 10.0) -> None:
        """Unloads everything, waiting up to `grace` seconds for requests; versions stay listed as END."""
        self._stop.set()
        if self._poller is not None:
            # A version that is being loaded now is closed by the thread that loads it.
            self._poller.join(grace)
        entries = [entry for model in list(self._models.values()) for entry in list(model.versions.values())]
        self._views = {}
        for entry in entries:
            entry.retire()
        deadline = time.monotonic() + grace
        while any(entry.leases for entry in entries) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._unloader.shutdown(wait=True)
        for entry in entries:
            entry.finish()

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception:
                # Whatever a file system raises: what is loaded keeps serving, and the next look may succeed.
                _LOG.exception("Looking for versions failed")

    def _reconcile(self, model: _Model, *, eager: bool = False) -> None:
        """Makes what is loaded what the policy asks for."""
        config = model.config
        found = self._look(model)
        if not found:
            # A base path that is empty for a moment, as some copies leave it, is no reason to stop serving.
            return
        for number in set(model.failed) - set(found):
            model.failed[number] = None
        wanted = config.policy.choose(found)
        for number in sorted(wanted, reverse=True):
            self._ensure(model, number, found[number], eager=eager)
        if not self._available(model) and config.policy.kind == "latest":
            for number in sorted(set(found) - wanted, reverse=True):
                if self._ensure(model, number, found[number], eager=eager):
                    _LOG.warning("Version %d of '%s' serves until a later one loads", number, config.name)
                    break
        available = self._available(model)
        if wanted & available:
            self._retire(config.name, model, [model.versions[n] for n in available - wanted])

    def _look(self, model: _Model) -> dict[int, str]:
        """Returns the versions on disk; what is wrong with the base path is logged once."""
        config, found, complaint = model.config, {}, ""
        try:
            found = list_versions(config.base_path)
        except (OSError, TfmetaError) as error:
            complaint = f"Base path {config.base_path} of '{config.name}' cannot be read: {error}"
        missing = sorted(set(config.policy.versions) - set(found))
        if not complaint and not found:
            complaint = f"No versions of '{config.name}' found under {config.base_path}; what is loaded keeps serving"
        elif not complaint and missing:
            complaint = f"Versions {missing} of '{config.name}', which its policy asks for, are not there"
        if complaint != model.complaint:
            model.complaint = complaint
            if complaint:
                _LOG.warning("%s", complaint)
        return found

    def _available(self, model: _Model) -> set[int]:
        return {number for number, entry in model.versions.items() if entry.state == AVAILABLE}

    def _ensure(self, model: _Model, number: int, path: str, *, eager: bool) -> bool:
        """Loads a version unless it is loaded or known not to load; returns whether it is AVAILABLE."""
        old = model.versions.get(number)
        if old is not None and old.state == UNLOADING:
            return False  # Its last requests run; the next look loads it again.
        if old is not None and old.state == AVAILABLE and old.path == path:
            return True
        mark = fingerprint(path)
        if number in model.failed and (old is None or old.path == path):
            if mark == model.failed[number]:
                model.pending.pop(number, None)
                return False
            # A directory that is being written changes between two looks: wait until it rests.
            if not eager and model.pending.get(number) != mark:
                model.pending[number] = mark
                return False
        model.pending.pop(number, None)
        model.failed.pop(number, None)
        entry = ManagedVersion(number, path, on_idle=self._unload_later)
        if old is None or old.state != AVAILABLE:
            with self._states:
                model.versions[number] = entry
        name = model.config.name
        begun = time.monotonic()
        if not self._load(name, entry):
            model.failed[number] = mark
            _LOG.error("Version %d of '%s' does not load: %s", number, name, entry.error[1])
            return False
        with self._states:
            model.versions[number] = entry
        self._publish(name, model)
        if old is not None:
            old.retire()
        _LOG.info("Version %d of '%s' is available, loaded and warmed up in %.1f s", number, name,
                  time.monotonic() - begun)
        return True

    def _load(self, name: str, entry: ManagedVersion) -> bool:
        entry.state = LOADING
        servable = None
        try:
            servable = self._make(name, entry.number, entry.path)
            self._warm_up(servable, entry.path)
            if self._stop.is_set():
                raise RequestError("CANCELLED", "The server is stopping")
        # A damaged file can raise anything; it must not take other models and versions down.
        except Exception as error:
            if servable is not None:
                servable.close()
            if isinstance(error, RequestError):
                entry.fail(error.code, error.message)
            else:
                text = str(error) if isinstance(error, TfmetaError) else f"{type(error).__name__}: {error}"
                entry.fail("UNKNOWN", text)
            return False
        entry.publish(servable)
        return True

    def _publish(self, name: str, model: _Model) -> None:
        versions = {n: entry for n, entry in model.versions.items() if entry.state == AVAILABLE}
        self._views[name] = _View(versions[max(versions)] if versions else None, versions)

    def _retire(self, name: str, model: _Model, entries: list[ManagedVersion]) -> None:
        """Takes versions out of the view first, so that no request finds one that takes no leases."""
        keep = {n: e for n, e in self._views.get(name, _NOTHING).versions.items() if e not in entries}
        self._views[name] = _View(keep[max(keep)] if keep else None, keep)
        for entry in entries:
            if entry.state == AVAILABLE:
                _LOG.info("Version %d of '%s' is unloaded after its last request", entry.number, name)
                entry.retire()

    def _unload_later(self, entry: ManagedVersion) -> None:
        # Not in the thread of a request: freeing a large session takes a while.
        # Refused when the server is closing; `close` then finishes the rest.
        with contextlib.suppress(RuntimeError):
            self._unloader.submit(entry.finish)

    def _require_one(self, model: _Model) -> None:
        if not self._available(model):
            name, base = model.config.name, model.config.base_path
            reasons = [f"version {n}: {e.error[1]}" for n, e in sorted(model.versions.items(), reverse=True) if e.error]
            raise ServingError(f"Model '{name}' requires a version that loads, received none in '{base}'. "
                               + ("; ".join(reasons) or "No version is there that its policy asks for."))

    def _check_labels(self, configs: Iterable[ModelConfig]) -> dict[str, Mapping[str, int]]:
        for config in configs:
            model = self._models.get(config.name)
            available = self._available(model) if model else set()
            for label, version in config.labels.items():
                # A label that clients use already must not be moved to where nothing answers.
                moved = self._labels.get(config.name, {}).get(label, version) != version
                if version not in available and (moved or not self._allow_unavailable_labels):
                    raise RequestError("FAILED_PRECONDITION",
                                       f"Request to assign label to version {version} of model {config.name}, which "
                                       "is not currently available for inference")
        return {config.name: dict(config.labels) for config in configs}

    def _report_unavailable(self, names: set[str]) -> None:
        parts = []
        for name in sorted(names):
            model = self._models[name]
            if not self._available(model):
                parts += [f"{{name: {name} version: {n}}} due to error: {e.error[0]}: {e.error[1]}"
                          for n, e in sorted(model.versions.items(), reverse=True) if e.error][:1] or [
                              f"{{name: {name}}}"]
        if parts:
            raise RequestError("UNKNOWN", f"{len(parts)} model(s) did not become available: "
                                          "{" + "".join(f"{{{p}}}, " for p in parts) + "}")


def _load_servable(name: str, version: int, path: str):
    from tfmeta.serving.servable import Servable

    return Servable(name, version, path)


def _replay(servable, path: str) -> int:
    from tfmeta.serving import warm_up

    return warm_up.replay(servable, path)
