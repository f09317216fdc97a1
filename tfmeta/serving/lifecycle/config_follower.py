"""Applies changes of a model configuration file to a running server."""

import logging
import threading
from collections.abc import Iterable

from tfmeta.errors import TfmetaError
from tfmeta.serving.model_config import ModelConfig
from tfmeta.serving.model_config_file import parse_model_config, read_model_config_text
from tfmeta.serving.model_manager import ModelManager

_LOG = logging.getLogger("tfmeta.serving")


class ConfigFollower:
    """Reads a ModelServerConfig file from time to time and reloads the server's models when it has changed.

    A file that cannot be read, or is refused (a label names a version that is not loaded yet, say), leaves the
    models as they are, is logged once, and is tried again at the next look.

    Args:
      manager: of the models.
      path: of the file.
      fixed: models that are served beside those of the file.
      seconds: between two looks.
    """

    def __init__(self, manager: ModelManager, path: str, *, fixed: Iterable[ModelConfig] = (), seconds: float):
        self._manager, self._path, self._fixed, self._seconds = manager, path, tuple(fixed), seconds
        self._applied: str | None = None
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow-config", daemon=True)

    def start(self, *, applied: str) -> None:
        """Follows the file from now on; `applied` is its text as the manager was made with it."""
        self._applied = applied
        self._thread.start()

    def stop(self) -> None:
        """Ends following; a reload that runs ends with the manager."""
        self._stopping.set()

    def look(self) -> None:
        """Looks at the file once."""
        complaint = ""
        try:
            text = read_model_config_text(self._path)
            if text == self._applied:
                return
            self._manager.reload([*self._fixed, *parse_model_config(text, path=self._path)])
        except (OSError, TfmetaError) as error:
            complaint = str(error)
        else:
            self._applied = text
            _LOG.info("The models are those of the changed '%s'", self._path)
        if complaint and complaint != self._complaint:
            _LOG.error("The models stay as they are, '%s' is not applied: %s", self._path, complaint)
        self._complaint = complaint

    def _follow(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self.look()
            except Exception:
                # Whatever a file system raises: the models stay, and the next look may succeed.
                _LOG.exception("Looking at '%s' failed", self._path)
