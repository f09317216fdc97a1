"""Which models and versions a server holds."""

import dataclasses
import threading

from tfmeta.errors import ServingError
from tfmeta.serving.model_versions import list_versions
from tfmeta.serving.request_error import RequestError
from tfmeta.serving.servable import Servable

# tensorflow.serving.ModelVersionStatus.State
START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50
STATE_NAMES = {START: "START", LOADING: "LOADING", AVAILABLE: "AVAILABLE", UNLOADING: "UNLOADING", END: "END"}


@dataclasses.dataclass
class _Version:
    state: int
    servable: Servable | None = None


class ModelManager:
    """Loads the latest version of every model and finds the servable that a request means.

    Args:
      model_bases: model name -> base path with numeric version directories.

    Raises:
      ServingError: if a name is empty or a base path has no version.
    """

    def __init__(self, model_bases: dict[str, str]):
        if not model_bases:
            raise ServingError("A server requires at least one model, received none. Pass NAME=DIR.")
        for name, base in model_bases.items():
            if not name:
                raise ServingError(f"The model in '{base}' requires a name, received an empty one.")
            if not list_versions(base):
                raise ServingError(
                    f"Model '{name}' requires a directory with numeric version directories (such as 1/), received "
                    f"'{base}', which has none. Write one with 'tfmeta export --out {base}'.")
        self._bases = dict(model_bases)
        self._models: dict[str, dict[int, _Version]] = {name: {} for name in model_bases}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Loads the latest version of every model; ServingError names one that does not load."""
        for name, base in self._bases.items():
            versions = list_versions(base)
            self._load_version(name, max(versions), versions[max(versions)])

    def _load_version(self, name: str, version: int, path: str) -> None:
        with self._lock:
            self._models[name][version] = _Version(LOADING)
        try:
            servable = Servable(name, version, path)
        except ServingError:
            with self._lock:
                self._models[name][version] = _Version(END)
            raise
        with self._lock:
            self._models[name][version] = _Version(AVAILABLE, servable)

    def find(self, name: str, *, version: int | None = None, label: str | None = None) -> Servable:
        """Returns the servable of a request's model_spec.

        Raises:
          RequestError: INVALID_ARGUMENT without a name or with an unknown label, NOT_FOUND for an unknown model or
            version.
        """
        if not name:
            raise RequestError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if label:
            raise RequestError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        versions = self._models.get(name, {})
        if version is not None:
            entry = versions.get(version)
            if entry is None or entry.servable is None:
                raise RequestError("NOT_FOUND", f"Servable not found for request: Specific({name}, {version})")
            return entry.servable
        available = [v for v, entry in versions.items() if entry.servable is not None]
        if not available:
            raise RequestError("NOT_FOUND", f"Servable not found for request: Latest({name})")
        return versions[max(available)].servable

    def states(self, name: str, *, version: int | None = None) -> list[tuple[int, int]]:
        """Returns (version, state) of a model, newest first.

        Raises:
          RequestError: NOT_FOUND for an unknown model or version.
        """
        with self._lock:
            states = sorted(((v, entry.state) for v, entry in self._models.get(name, {}).items()), reverse=True)
        if not states:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {name}")
        if version is not None:
            states = [s for s in states if s[0] == version]
            if not states:
                raise RequestError("NOT_FOUND", f"Could not find version {version} of model {name}")
        return states

    def loaded(self) -> dict[str, int]:
        """Returns model name -> the version that answers requests without one."""
        return {name: max(v for v, entry in versions.items() if entry.servable is not None)
                for name, versions in self._models.items() if any(e.servable for e in versions.values())}

    def close(self) -> None:
        """Unloads everything; versions stay listed as END."""
        with self._lock:
            for versions in self._models.values():
                for entry in versions.values():
                    if entry.servable is not None:
                        entry.servable.close()
                    entry.state, entry.servable = END, None
