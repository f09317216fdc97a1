"""Which models and versions a server holds."""

import concurrent.futures
import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from tfmeta.errors import ServingError
from tfmeta.serving.lifecycle.lease import Lease
from tfmeta.serving.lifecycle.managed_model import ManagedModel
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
from tfmeta.serving.model_versions import list_versions
from tfmeta.serving.request_error import RequestError

__all__ = ["AVAILABLE", "END", "LOADING", "START", "STATE_NAMES", "UNLOADING", "ModelManager"]

_LOG = logging.getLogger("tfmeta.serving")


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
        self._make, self._warm_up = make_servable or _load_servable, warm_up or _replay
        self._allow_unavailable_labels = allow_unavailable_labels
        # Held while the set of versions changes, loading included; requests never take it.
        self._change = threading.Lock()
        self._poll_seconds, self._stopping = poll_seconds, threading.Event()
        self._poller: threading.Thread | None = None
        self._models = {config.name: self._managed(config) for config in check_models(models)}
        self._labels: dict[str, Mapping[str, int]] = {}
        self._unloader = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="unload")

    def load(self) -> None:
        """Loads the configured versions, and follows the base paths from then on.

        Raises:
          ServingError: if a model has no version that loads, or a label no available version.
        """
        try:
            with self._change:
                for model in self._models.values():
                    model.reconcile(eager=True)
                    _require_one(model)
                self._labels = self._check_labels([m.config for m in self._models.values()])
        except ServingError as error:
            self.close()
            if isinstance(error, RequestError):
                raise ServingError(f"{error.message}. Serve that version, or allow labels for unavailable versions "
                                   "(--allow-version-labels-for-unavailable-models).") from None
            raise
        if self._poll_seconds > 0 and self._poller is None:
            self._poller = threading.Thread(target=self._follow, name="poll-versions", daemon=True)
            self._poller.start()

    def poll(self) -> None:
        """Looks at all base paths once, loads what is new and unloads what is gone."""
        with self._change:
            for model in self._models.values():
                if model.config is not None and not self._stopping.is_set():
                    model.reconcile()

    def reload(self, configs: Iterable[ModelConfig]) -> None:
        """Replaces the whole list of models, and returns when the new ones are loaded.

        Models that are not in it are unloaded and stay listed as END. What is refused changes nothing.

        Args:
          configs: the new list.

        Raises:
          RequestError: NOT_FOUND if a new model has no version directory, FAILED_PRECONDITION if a label names a
            version that is not available now, UNKNOWN if a new model does not load (the list is replaced then).
        """
        wanted = {config.name: config for config in configs}
        with self._change:
            if self._stopping.is_set():
                raise RequestError("UNAVAILABLE", "The server is stopping")
            new = [n for n in wanted if n not in self._models or self._models[n].config is None]
            for name in new:
                if not list_versions(wanted[name].base_path):
                    raise RequestError("NOT_FOUND", "Unable to find a numerical version path for servable "
                                                    f"{name} at: {wanted[name].base_path}")
            # Labels move first: their versions are loaded, and those they leave may be unloaded below.
            self._labels = self._check_labels(wanted.values())
            for name, model in self._models.items():
                if name not in wanted and model.config is not None:
                    model.drop()
                    _LOG.info("Model '%s' is no longer configured", name)
            # Replaced, not changed: requests look names up without a lock.
            self._models = {**{n: self._managed(c) for n, c in wanted.items()}, **self._models}
            for name, config in wanted.items():
                self._models[name].config = config
                self._models[name].reconcile(eager=True)
            _report_unavailable([self._models[name] for name in new])

    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Lease:
        """Returns the servable of a request's model_spec for the length of a `with` block.

        It stays loaded until the block ends, whatever happens to the model meanwhile.

        Raises:
          RequestError: INVALID_ARGUMENT without a name or with an unknown label, NOT_FOUND for an unknown model or
            version.
        """
        while True:
            found = self._find(name, version, label)
            # Refused only between being taken out of the view and here: look again.
            if found.acquire():
                return Lease(found)

    def _find(self, name: str, version: int | None, label: str | None) -> ManagedVersion:
        if not name:
            raise RequestError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if label:
            version = self._resolve_label(name, label)
        model = self._models.get(name)
        if model is not None:
            found = model.view.latest if version is None else model.view.versions.get(version)
            if found is not None:
                return found
        raise RequestError("NOT_FOUND", "Servable not found for request: " + (
            f"Latest({name})" if version is None else f"Specific({name}, {version})"))

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
        model = self._models.get(name)
        entries = model.entries() if model is not None else []
        if not entries:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {name}")
        if version is not None:
            entries = [entry for entry in entries if entry.number == version]
            if not entries:
                raise RequestError("NOT_FOUND", f"Could not find version {version} of model {name}")
        return [(entry.number, entry.state, entry.error) for entry in entries]

    def loaded(self) -> dict[str, int]:
        """Returns model name -> the version that answers requests without one."""
        latest = {name: model.view.latest for name, model in sorted(self._models.items())}
        return {name: version.number for name, version in latest.items() if version is not None}

    def close(self, *, grace: float = 10.0) -> None:
        """Unloads everything, waiting up to `grace` seconds for requests; versions stay listed as END."""
        deadline = time.monotonic() + grace
        self._stopping.set()
        if self._poller is not None:
            # A version that is still being loaded then is closed by the thread that loads it.
            self._poller.join(grace)
        for model in self._models.values():
            model.drop()
        entries = [entry for model in self._models.values() for entry in model.entries()]
        while any(entry.leases for entry in entries) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._unloader.shutdown(wait=True)
        for entry in entries:
            entry.finish()

    def _managed(self, config: ModelConfig) -> ManagedModel:
        return ManagedModel(config, make_servable=self._make, warm_up=self._warm_up, on_idle=self._unload_later,
                            stopping=self._stopping)

    def _follow(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.poll()
            except Exception:
                # Whatever a file system raises: what is loaded keeps serving, and the next look may succeed.
                _LOG.exception("Looking for versions failed")

    def _unload_later(self, entry: ManagedVersion) -> None:
        # Not in the thread of a request: freeing a large session takes a while.
        # Refused when the server is closing; `close` then finishes the rest.
        with contextlib.suppress(RuntimeError):
            self._unloader.submit(self._unload, entry)

    def _unload(self, entry: ManagedVersion) -> None:
        entry.finish()
        if not self._stopping.is_set():
            # A graph is a web of cycles; left to the collector's own time, each swap leaves a larger heap behind.
            gc.collect()

    def _check_labels(self, configs: Iterable[ModelConfig]) -> dict[str, Mapping[str, int]]:
        for config in configs:
            model = self._models.get(config.name)
            available = model.view.versions if model is not None else ()
            for label, version in config.labels.items():
                # A label that clients use already must not be moved to where nothing answers.
                moved = self._labels.get(config.name, {}).get(label, version) != version
                if version not in available and (moved or not self._allow_unavailable_labels):
                    raise RequestError("FAILED_PRECONDITION",
                                       f"Request to assign label to version {version} of model {config.name}, which "
                                       "is not currently available for inference")
        return {config.name: dict(config.labels) for config in configs}


def check_models(models: Mapping[str, str] | Iterable[ModelConfig]) -> list[ModelConfig]:
    """Returns the configurations; ServingError as `ModelManager`, without loading anything."""
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
    return configs


def _require_one(model: ManagedModel) -> None:
    if not model.view.versions:
        reasons = [f"version {e.number}: {e.error[1]}" for e in model.entries() if e.error]
        raise ServingError(f"Model '{model.name}' requires a version that loads, received none in "
                           f"'{model.config.base_path}'. "
                           + ("; ".join(reasons) or "No version is there that its policy asks for."))


def _report_unavailable(models: list[ManagedModel]) -> None:
    parts = []
    for model in models:
        if not model.view.versions:
            failed = [f"{{name: {model.name} version: {e.number}}} due to error: {e.error[0]}: {e.error[1]}"
                      for e in model.entries() if e.error]
            parts.append(f"{{{failed[0] if failed else f'{{name: {model.name}}}'}}}, ")
    if parts:
        raise RequestError("UNKNOWN", f"{len(parts)} model(s) did not become available: {{{''.join(parts)}}}")


def _load_servable(name: str, version: int, path: str):
    from tfmeta.serving.servable import Servable

    return Servable(name, version, path)


def _replay(servable, path: str) -> int:
    from tfmeta.serving import warm_up

    return warm_up.replay(servable, path)
